"""Low-bit codes: how they are trained (estimators, hessian) and how they are stored (codes)."""
