"""Exact search of codes beside float32, in one process that takes turns: `python -m benchmarks.ann.beside --out CSV`.

For busy machines: a process of its own for each index, as in `benchmarks.ann`, compares moments as much as indices.
Milliseconds are the least and the median of the repetitions by the clock, and the least of processor time, which counts
all threads and none of the waiting. Beside them stand the bytes of the table and how long a sum of as many takes.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.ann.rows import BATCHES, NUM_QUERIES, K, generate, repeat
from benchmarks.cells import commit, machine
from benchmarks.timing import describe_run
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.rows import RowTable

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.

_KINDS = ("float32", "8 x 8", "8 x 8, CPU", "4 x 4", "4 x 4, CPU", "2 x 8", "2 x 8, CPU", "1 x 1")
_COLUMNS = ("rows", "dim", "num_items", "index", "batch", "ms_least", "ms_median", "cpu_ms", "times_float32")
_COLUMNS += ("times_float32_cpu", "megabytes", "ms_to_read", "machine", "commit")


def searches(items: np.ndarray, queries: np.ndarray, kinds: list[str]) -> Iterator[tuple[str, RowTable, Callable]]:
    """`(kind, table, search)` of each kind: a search takes rows of `queries` and returns the rows of the best items."""
    for kind in kinds:
        bits = [int(bits) for bits in kind.partition(",")[0].split(" x ")] if kind != "float32" else None
        values, asked = (items, queries) if bits is None else map(Codes.quantize, (items, queries), bits)
        table, users = make_rows(values, for_cpu=kind.endswith("CPU")), make_rows(asked, by_blocks=False)
        top_k = ExactTopK(table, jit_compile=True)

        def search(index: tf.Tensor, top_k: ExactTopK = top_k, users: RowTable = users) -> tf.Tensor:
            return top_k.call(users.queries(index), tf.constant(K))[1]

        yield kind, table, tf.function(search, input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--dim", type=int, default=64, help="dimensions of generated rows")
    parser.add_argument("--run", type=Path, help="run directory whose rows are repeated instead")
    parser.add_argument("--items", type=float, default=1e6)
    parser.add_argument("--kinds", nargs="+", default=list(_KINDS), help="float32 comes first")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--seed", type=int, default=2020)
    arguments = parser.parse_args()
    print(describe_run("benchmarks.ann.beside"), flush=True)
    num_items = int(arguments.items)
    if arguments.run is None:
        items, queries = generate(num_items, arguments.dim, arguments.seed)
    else:
        items, queries = repeat(arguments.run, num_items, arguments.seed)
    kinds = list(searches(items, queries, arguments.kinds))
    rows = [
        {"index": kind, "batch": batch, **taken}
        for batch in BATCHES
        for kind, taken in _measure(kinds, batch, arguments)
    ]
    read = _milliseconds_to_read(items, arguments.repetitions) / items.nbytes
    for row, table in zip(rows, [table for _, table, _ in kinds] * len(BATCHES)):
        reference = next(one for one in rows if one["batch"] == row["batch"])
        size = table.bytes_per_row * num_items
        row |= {"rows": "clusters" if arguments.run is None else arguments.run.name, "dim": items.shape[1]}
        row |= {"num_items": num_items, "megabytes": round(size / 1e6), "ms_to_read": round(size * read, 2)}
        row |= {"times_float32": round(reference["ms_least"] / row["ms_least"], 2)}
        row |= {"times_float32_cpu": round(reference["cpu_ms"] / row["cpu_ms"], 2)}
        row |= {"machine": machine(), "commit": commit()}
    is_new = not arguments.out.exists()
    with arguments.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(", ".join(f"{name} {row[name]}" for name in _COLUMNS[3:12]))


def _measure(
    kinds: list[tuple[str, RowTable, Callable]], batch: int, arguments: argparse.Namespace
) -> list[tuple[str, dict]]:
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind, _, _ in kinds}
    for repetition in range(-1, arguments.repetitions):
        index = tf.constant((np.arange(batch) + max(repetition, 0) * batch) % NUM_QUERIES, tf.int32)
        for kind, _, search in kinds:
            clock, processor = time.perf_counter(), time.process_time()
            search(index).numpy()
            # The first call compiles.
            if repetition >= 0:
                taken[kind].append((time.perf_counter() - clock, time.process_time() - processor))
    found = []
    for kind, values in taken.items():
        clock, processor = (1000 * np.array(column) for column in zip(*values))
        times = {"ms_least": clock.min(), "ms_median": np.median(clock), "cpu_ms": processor.min()}
        found.append((kind, {name: round(float(value), 2) for name, value in times.items()}))
    return found


def _milliseconds_to_read(items: np.ndarray, repetitions: int) -> float:
    values = tf.constant(items)
    add = tf.function(lambda: tf.reduce_sum(values))
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        add().numpy()
        taken.append(1000 * (time.perf_counter() - start))
    return min(taken)


if __name__ == "__main__":
    main()
