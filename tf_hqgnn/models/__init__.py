"""Encoders and the trainable model."""
