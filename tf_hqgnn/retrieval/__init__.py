"""Top-k retrieval behind one interface."""
