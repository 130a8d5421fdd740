"""The times at which a log is divided, exactly: the digits of a quantile, found 16 bits in each job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from tf_hqgnn.beam.path.core import shard_path
from tf_hqgnn.beam.path.work import Work, read_arrays, read_table, write_arrays
from tf_hqgnn.types import Float64Array, Int64Array

_DIGIT = 16


def find_times(work: Work, numbered: str, num_shards: int, places: Sequence[int]) -> tuple[float, ...]:
    """The times at some places of all times in ascending order, as a sort of them would have them.

    Args:
      work: where the files are.
      numbered: the folder with the shards of pairs.
      num_shards: how many there are.
      places: from 0 on.
    """
    prefixes, left = [0] * len(places), list(places)
    for shift in range(64 - _DIGIT, -1, -_DIGIT):
        build = partial(_count, numbered=numbered, num_shards=num_shards, shift=shift, prefixes=tuple(prefixes))
        step = work.run(f"times-{shift:02d}", build, partial(_choose, prefixes=tuple(prefixes), places=tuple(left)))
        prefixes, left = [one[0] for one in step], [one[1] for one in step]
    return tuple(_times(np.array(prefixes, np.uint64)).tolist())


def _count(
    pipeline: beam.Pipeline, folder: str, numbered: str, num_shards: int, shift: int, prefixes: tuple[int, ...]
) -> None:
    """Writes how many times go on with each digit."""
    _ = (
        pipeline
        | beam.Create(range(num_shards))
        | beam.Reshuffle()
        | beam.Map(_histogram, numbered, shift, prefixes)
        | beam.CombineGlobally(_total)
        | beam.Map(_write, f"{folder}/histogram.npz")
    )


def _choose(folder: str, prefixes: tuple[int, ...], places: tuple[int, ...]) -> list[list[int]]:
    """Each prefix with its next digit, and the place that is left among the times that begin so."""
    counts = read_arrays(f"{folder}/histogram.npz")["counts"].reshape(len(prefixes), -1)
    found = []
    for prefix, place, row in zip(prefixes, places, counts):
        ends = np.cumsum(row)
        digit = int(np.searchsorted(ends, place, side="right"))
        found.append([prefix << _DIGIT | digit, place - int(ends[digit] - row[digit])])
    return found


def _histogram(shard: int, numbered: str, shift: int, prefixes: tuple[int, ...]) -> Int64Array:
    """Counts the times of a shard by their prefix and next digit, int64 [prefixes * 65536]."""
    keys = _keys(read_table(shard_path(numbered, shard))["timestamp"].to_numpy())
    counts = []
    for prefix in prefixes:
        head = keys >> np.uint64(shift)
        mine = head[head >> np.uint64(_DIGIT) == prefix]
        counts.append(np.bincount((mine & np.uint64(2**_DIGIT - 1)).astype(np.int64), minlength=2**_DIGIT))
    return np.concatenate(counts)


def _total(parts: Sequence[Int64Array]) -> Int64Array:
    total = np.zeros(1, np.int64)
    for part in parts:
        total = total + part
    return total


def _write(counts: Int64Array, path: str) -> None:
    write_arrays(path, counts=counts)


def _keys(times: Float64Array) -> npt.NDArray[np.uint64]:
    """Numbers in the order of the times: their bits, with the sign turned, and all bits of a negative one."""
    bits = (times + 0.0).view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))


def _times(keys: npt.NDArray[np.uint64]) -> Float64Array:
    """The times whose `_keys` these are."""
    bits = np.where(keys >> np.uint64(63), keys & ~np.uint64(1 << 63), ~keys)
    return bits.astype(np.uint64).view(np.float64)
