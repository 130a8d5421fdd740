"""`auto`: a race of settings on the validation split, before a training begins (config/auto.py)."""
