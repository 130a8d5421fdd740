"""Runs the programs: needs jaxlib and NumPy only, and imports nothing else of this project."""
