"""The package's hot programs, compiled by TensorFlow's XLA, to be run on a GPU without TensorFlow."""
