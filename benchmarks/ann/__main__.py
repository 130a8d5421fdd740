"""Exact and approximate indices over the same rows, side by side: `python -m benchmarks.ann run | report`.

Needs `make .venv-ann/.installed` for FAISS and usearch. Rows are generated (clusters, lengths that differ): 64
dimensions, the 100 best by inner product. An index is built, tuned to a recall of .98 if it is approximate, and timed
in a process of its own, all within two threads; bits are those of items and of queries, searched by XLA. Recall is that
of the best 100 by the full-precision rows: codes of generated rows keep little of it, those of a trained model most of
its accuracy (README).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.ann.rows import K, generate
from benchmarks.cells import ROOT, Cells, commit, commits, machine, machines
from benchmarks.timing import describe_run
from tf_hqgnn.export.layout import SCANN_MODEL

_PYTHON = ROOT / ".venv-ann" / "bin" / "python"
_REFERENCE = "TensorFlow"
_BITS = ("8 x 8", "4 x 4", "2 x 8", "1 x 8", "1 x 1")
_OURS = ("exact, float32", *(f"exact, {bits} bits" for bits in _BITS), SCANN_MODEL)
_LIBRARIES = ("FAISS flat", "FAISS IVF", "FAISS binary", "usearch")
# A graph of five million items takes longer to build than all the others together.
_LARGEST = {"usearch": 1_000_000}
_KEY = ("num_items", "index", "seed")
_COLUMNS = (*_KEY, "ms_1", "ms_32", "recall", "bytes_per_item", "setting", "build_seconds", "machine", "commit")


def run(arguments: argparse.Namespace) -> None:
    """Measures what the CSV doesn't have."""
    if not _PYTHON.exists():
        raise SystemExit("FAISS and usearch are not installed; make their environment with `make .venv-ann/.installed`")
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.work / "ann.csv", _KEY, _COLUMNS)
    print(describe_run("benchmarks.ann"), flush=True)
    for num_items in (int(float(size)) for size in arguments.sizes):
        wanted = [
            name
            for name in (_REFERENCE, *_OURS, "ScaNN alone", *_LIBRARIES)
            if num_items <= _LARGEST.get(name, num_items)
            and {"num_items": num_items, "index": name, "seed": arguments.seed} not in cells
        ]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            _write_rows(Path(folder), num_items, arguments.seed)
            for name in wanted:
                print(f"{num_items:,} items, {name}", flush=True)
                started = {"machine": machine(), "commit": commit(), "seed": arguments.seed}
                cells.add({"num_items": num_items, "index": name, **started, **_measure(name, folder)})
    print(markdown(cells.rows))


def markdown(rows: list[dict[str, str]]) -> str:
    """The table of benchmarks/README.md."""
    lines = []
    for size in sorted({int(row["num_items"]) for row in rows}):
        here = [row for row in rows if int(row["num_items"]) == size]
        reference = next(row for row in here if row["index"] == _REFERENCE)
        lines += [
            f"{size:,} items; median milliseconds of a call, in brackets how many times as fast as TensorFlow's:",
            "",
            "| index | 1 query | 32 queries | recall@100 | bytes an item | built in s |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in here:
            times = [
                f"{float(row[name]):.2f} ({float(reference[name]) / float(row[name]):.1f})"
                for name in ("ms_1", "ms_32")
            ]
            cells = [*times, f"{float(row['recall']):.3f}", f"{float(row['bytes_per_item']):.0f}"]
            lines.append(f"| {row['index']} | {' | '.join(cells)} | {float(row['build_seconds']):.0f} |")
        lines.append("")
    return "\n".join([*lines, f"{machines(rows, 'an index')} {commits(rows)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--work", type=Path, default=Path("bench-results"), help="ann.csv is there")
    parser.add_argument("--sizes", nargs="+", default=["1e6", "5e6"], help="items")
    parser.add_argument("--seed", type=int, default=2020)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    else:
        print(markdown(Cells(arguments.work / "ann.csv", _KEY, _COLUMNS).rows))


def _write_rows(folder: Path, num_items: int, seed: int) -> None:
    """The rows, the queries and the K best items of each."""
    items, queries = generate(num_items, seed)
    exact = np.empty((len(queries), K), np.int64)
    for first in range(0, len(queries), 32):
        scores = queries[first : first + 32] @ items.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        exact[first : first + 32] = best
    for name, values in (("items", items), ("queries", queries), ("exact", exact)):
        np.save(folder / f"{name}.npy", values)


def _measure(name: str, folder: str) -> dict[str, float]:
    is_library = name in _LIBRARIES
    python, module = (_PYTHON, "libraries") if is_library else (sys.executable, "ours")
    output = subprocess.run(
        [str(python), "-m", f"benchmarks.ann.{module}", name, folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    ).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    main()
