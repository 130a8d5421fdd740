"""The indices that a model can be served with, a file each; `Index` and the registry stand in index.py."""
