"""What a propagation has written."""

import numpy as np
import pyarrow.parquet as pq


def rows_of(folder):
    """The rows of users, and those of items, in their order."""
    found = []
    for side in ("users", "items"):
        tables = [pq.read_table(path) for path in sorted(folder.glob(f"{side}-*.parquet"))]
        index = np.concatenate([table.column("index").to_numpy() for table in tables])
        values = np.concatenate([np.stack(table.column("embedding").to_numpy()) for table in tables])
        found.append(values[np.argsort(index)])
    return found
