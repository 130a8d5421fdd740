"""Training: from a dataset and settings to a run directory."""
