"""Tables that stand for those of a trained model."""

import numpy as np


def some_tables(num_users, num_items, dim):
    """Users and items with few strong dimensions and popular items, as propagated ones have."""
    random = np.random.default_rng(0)
    spread = np.linspace(2, 0.3, dim)
    users, items = (random.normal(size=(n, dim)) * spread for n in (num_users, num_items))
    items *= random.uniform(0.5, 2, size=(num_items, 1))
    return users.astype(np.float32), items.astype(np.float32)
