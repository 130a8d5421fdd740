"""report.html of a training run: one file with its curves, its metrics, and what it recommends to ten users."""
