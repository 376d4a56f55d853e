"""What fits share: checkpoints that survive a kill."""
