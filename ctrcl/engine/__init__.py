"""Training, inference and evaluation of experiments."""
