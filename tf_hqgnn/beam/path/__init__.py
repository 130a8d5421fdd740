"""The whole path from a log to a run directory as Beam jobs; see tf_hqgnn/beam/README.md."""
