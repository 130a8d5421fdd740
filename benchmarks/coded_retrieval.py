"""Bytes, and milliseconds of exact retrieval, of float32 and of codes: `python -m benchmarks.coded_retrieval`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import describe_run, interleaved
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.rows import RowTable

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.

DIM, NUM_USERS, K = 64, 1000, 100
# Bits of items and of users, None is float32; and whether XLA fuses the search (export.jit_compile).
Pair = tuple[int | None, int | None, bool]
PAIRS: tuple[Pair, ...] = (
    (None, None, False),
    (8, 8, False),
    (4, 8, False),
    (4, 4, False),
    (2, 8, False),
    (1, 8, False),
    (1, None, False),
    (1, 1, False),
    (4, 4, True),
    (2, 8, True),
    (1, 8, True),
    (1, 1, True),
)
BATCHES = (1, 32)


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one pair of bits.

    Args:
      bytes_per_item: of the table's variables.
      megabytes: 10^6 bytes of the variables of a SavedModel that scores and selects, and holds no ids or seen items.
      milliseconds: the best of all scores for each of BATCHES, then of scores and the K best items.
    """

    bytes_per_item: float
    megabytes: float
    milliseconds: list[float]


class Retrieval(tf.Module):
    """What of a served model depends on the rows: users in, scores or the K best items out.

    Args:
      users: table of users.
      items: table of items.
      jit_compile: of the search.
    """

    def __init__(self, users: RowTable, items: RowTable, jit_compile: bool) -> None:
        super().__init__()
        self._users, self._items, self._top_k = users, items, ExactTopK(items, jit_compile)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def scores(self, user_index: tf.Tensor) -> tf.Tensor:
        """All scores of the users."""
        return self._items.score_all(self._users.queries(user_index))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def best(self, user_index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The K best items of each."""
        return self._top_k.call(self._users.queries(user_index), tf.constant(K))


def measure(num_items: int, pair: Pair, repetitions: int) -> Row:
    """One pair of bits, in a process of its own (`--pair`): tables of generated rows, saved, loaded and timed."""
    rng, (bits, user_bits, jit_compile) = np.random.default_rng(0), pair

    def table(num_rows: int, num_bits: int | None) -> RowTable:
        rows = rng.normal(size=(num_rows, DIM)).astype(np.float32)
        return make_rows(rows if num_bits is None else Codes.quantize(rows, num_bits))

    items = table(num_items, bits)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(Retrieval(table(NUM_USERS, user_bits), items, jit_compile), folder)
        megabytes = sum(file.stat().st_size for file in Path(folder, "variables").iterdir()) / 1e6
        loaded = tf.saved_model.load(folder)
    requests = [tf.range(batch, dtype=tf.int64) for batch in BATCHES]
    calls = {
        f"{function} {len(request)}": partial(getattr(loaded, function), request)
        for function in ("scores", "best")
        for request in requests
    }
    milliseconds = [1000 * float(seconds.min()) for seconds in interleaved(calls, repetitions).values()]
    return Row(items.bytes_per_row, megabytes, milliseconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-items", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=2, help="processes a row; the best time of all counts")
    parser.add_argument(
        "--pair", help="a pair alone, as JSON, for instance [1, 8, true] or [null, null, false]; prints JSON"
    )
    arguments = parser.parse_args()
    if arguments.pair:
        row = measure(arguments.num_items, tuple(json.loads(arguments.pair)), arguments.repetitions)
        print(json.dumps(dataclasses.asdict(row)))
        return
    print(describe_run("benchmarks.coded_retrieval"))
    print(
        f"{arguments.num_items:,} items and {NUM_USERS:,} users of {DIM} dimensions; MB: the variables of a SavedModel "
        "of both\ntables, without ids and seen items; ms: the best of all runs; in brackets, float32's by it"
    )
    titles = [f"{what} of {batch}" for what in ("scores", f"top {K}") for batch in BATCHES]
    print(f"{'items x users':>18}{'bytes':>7}{'MB':>8}" + "".join(f"{title:>19}" for title in titles))
    results = {pair: [_in_a_process(pair, arguments)] for pair in PAIRS}
    for _ in range(arguments.rounds - 1):
        for pair in PAIRS:
            results[pair].append(_in_a_process(pair, arguments))
    reference = _best_times(results[PAIRS[0]])
    for (bits, user_bits, jit_compile), rows in results.items():
        name = f"{bits or 'float32'} x {user_bits or 'float32'}{', XLA' if jit_compile else ''}"
        times = "".join(f"{ms:9.1f} ({float32 / ms:6.2f}x)" for ms, float32 in zip(_best_times(rows), reference))
        print(f"{name:>18}{rows[0].bytes_per_item:7.0f}{rows[0].megabytes:8.1f}{times}")


def _in_a_process(pair: Pair, arguments: argparse.Namespace) -> Row:
    options = ["--pair", json.dumps(pair), "--num-items", str(arguments.num_items)]
    command = [sys.executable, "-m", "benchmarks.coded_retrieval", *options]
    command += ["--repetitions", str(arguments.repetitions)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Row(**json.loads(output.splitlines()[-1]))


def _best_times(rows: list[Row]) -> list[float]:
    """Over all processes, in the order of the columns."""
    return list(np.min([row.milliseconds for row in rows], axis=0))


if __name__ == "__main__":
    main()
