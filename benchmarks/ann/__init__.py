"""Indices side by side: the exact and approximate ones of tf_hqgnn, TensorFlow's brute force, ScaNN, FAISS, usearch."""
