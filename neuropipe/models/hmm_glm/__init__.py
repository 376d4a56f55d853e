"""Brain states over time, and the interactions of neurons in each: HMM-GLM (Li et al. 2024)."""
