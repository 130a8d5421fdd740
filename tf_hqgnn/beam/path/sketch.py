"""A sample of distinct ids that doesn't depend on who holds them, and the ranges into which it cuts all ids."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

# Ids of a sample of one shard.
SAMPLE = 256


def sketch(ids: pa.Array) -> list[str]:
    """The distinct ids with the smallest hashes, at most 256: of several shards the smallest of all are a fair sample.

    Example:
      >>> sketch(pa.array(["b", "a", "b"]))
      ['b', 'a']
    """
    distinct = ids.unique()
    names = distinct.to_pylist()
    hashes = np.fromiter((zlib.crc32(name.encode()) for name in names), np.int64, len(names))
    return [names[place] for place in np.argsort(hashes, kind="stable")[:SAMPLE]]


def cuts(sketches: Iterable[Sequence[str]], num_ranges: int) -> list[str]:
    """Ids that cut all ids, in the order of code points, into about equal ranges: at most `num_ranges` - 1 of them.

    Args:
      sketches: of `sketch`, of each shard.
      num_ranges: how many ranges are wanted.

    Example:
      >>> cuts([["a", "b"], ["c", "b", "d"]], 2)
      ['c']
    """
    distinct = {name for sketch in sketches for name in sketch}
    sample = sorted(sorted(distinct, key=lambda name: (zlib.crc32(name.encode()), name))[: SAMPLE * num_ranges])
    places = np.unique(np.arange(1, num_ranges) * len(sample) // num_ranges)
    return [sample[place] for place in places if place > 0]
