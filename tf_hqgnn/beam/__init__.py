"""Apache Beam: answers for all users at once, and propagation over graphs that no machine holds. See README.md."""
