"""From recordings to what a model is fitted on: windows, folds and history features."""
