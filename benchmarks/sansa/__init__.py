"""SANSA as a peer, in an environment of its own."""
