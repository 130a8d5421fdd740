"""The command line, `tf-hqgnn`: what a user types, and what is printed."""
