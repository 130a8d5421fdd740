"""Gradient estimators of rounding, each registered by the name that settings give it. None imports TensorFlow."""
