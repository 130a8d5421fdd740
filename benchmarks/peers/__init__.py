"""tf_hqgnn and its peers on the same split files, by the same judge: `python -m benchmarks.peers --help`."""
