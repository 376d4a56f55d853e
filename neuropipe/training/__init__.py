"""What fits share: the gradient loop, its schedule, checkpoints that survive a kill."""
