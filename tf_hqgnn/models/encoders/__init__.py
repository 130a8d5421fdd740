"""Encoders that settings can name, one a file."""
