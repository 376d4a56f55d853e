"""Discrete units for decoding speech from intracranial recordings: Du-IN (Zheng et al. 2024)."""
