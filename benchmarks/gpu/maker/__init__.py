"""Makes the programs: needs TensorFlow and tf_hqgnn."""
