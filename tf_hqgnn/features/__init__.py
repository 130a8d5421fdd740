"""Embeddings of users and items from their features, by a ridge regression on the trained rows."""
