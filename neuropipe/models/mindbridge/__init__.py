"""One decoder of seen images for the BOLD of several subjects: MindBridge (Wang et al. 2024)."""
