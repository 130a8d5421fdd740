"""Flink, Spark and prism on this machine, for the tests and measurements of Beam's jobs: `make engines`."""
