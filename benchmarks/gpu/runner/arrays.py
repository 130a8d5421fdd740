"""Inputs of programs: made on the host where they are small, drawn by a program on the device where they are large."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .draws import Draw, draw, indices
from .graph_file import read_graph
from .manifest import Array

# So many items that would be the best answers are excluded when a search is checked and timed.
EXCLUDED_AHEAD = 2


def host_array(array: Array, folder: Path) -> np.ndarray:
    """The array, whatever its source.

    Raises:
      ValueError: Only the device makes it.
    """
    source = array.source
    kind = source["from"]
    if kind == "draw":
        return draw(Draw.from_json(source["draw"]))
    if kind == "value":
        return np.full(array.shape, source["value"], array.dtype)
    if kind == "indices":
        size = int(np.prod(array.shape))
        return indices(source["seed"], size, source["bound"], source["skewed"]).reshape(array.shape)
    if kind == "excluded":
        return np.full(array.shape, -1, array.dtype)
    if kind == "graph file":
        return read_graph(folder / source["file"])[source["array"]]
    raise ValueError(f"{array.name} is made by the device alone ({kind})")
