"""Users that no interaction has taught, in the output of a propagation: they get the mean of all others."""

from __future__ import annotations

import numpy as np
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.graph_files import ROW_COLUMNS, list_row_groups, read_rows, write_rows
from tf_hqgnn.types import BoolArray


def fill_users(out: str, untrained: BoolArray) -> None:
    """Replaces rows in `OUT/users-*.parquet`; two passes over the files, a file at a time in memory.

    Args:
      out: of a propagation.
      untrained: bool [U].
    """
    if not untrained.any() or untrained.all():
        return
    groups, _, _ = list_row_groups("--out", f"{out}/users-*.parquet", ROW_COLUMNS)
    total, holding = np.zeros(0), set()
    for group in groups:
        for index, rows in read_rows(group):
            taught = rows[~untrained[index]].astype(np.float64).sum(axis=0)
            total = taught if not total.size else total + taught
            if untrained[index].any():
                holding.add(group.path)
    mean = (total / np.count_nonzero(~untrained)).astype(np.float32)
    for path in sorted(holding):
        parts = [part for group in groups if group.path == path for part in read_rows(group)]
        index, rows = (np.concatenate(columns) for columns in zip(*parts))
        # The report, which says that all is done, isn't there yet.
        FileSystems.delete([path])
        write_rows(path, index, np.where(untrained[index][:, np.newaxis], mean, rows))
