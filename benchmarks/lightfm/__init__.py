"""LightFM, the peer of benchmarks.new_by_features, in an environment of its own (.venv-lightfm)."""
