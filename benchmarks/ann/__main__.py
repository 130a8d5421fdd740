"""Exact and approximate indices over the same rows, side by side: `python -m benchmarks.ann run | report`.

Needs `make .venv-ann/.installed` for FAISS and usearch. Rows are generated (clusters, lengths that differ), or those of
a trained run, repeated with noise (--run); the 100 best by inner product. An index is built, tuned to a recall of .98
if it is approximate, and timed in a process of its own, all within two threads; bits are those of items and of queries,
searched by XLA, or as `export.device: cpu` does. Recall is that of the best 100 by the full-precision rows: codes of
generated rows keep little of it, those of a trained model most of its accuracy (README).
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

from benchmarks.ann.rows import K, generate, repeat
from benchmarks.cells import ROOT, Cells, commit, commits, machine, machines
from benchmarks.timing import describe_run
from tf_hqgnn.export.layout import SCANN_MODEL

_PYTHON = ROOT / ".venv-ann" / "bin" / "python"
_REFERENCE = "TensorFlow"
_BITS = ("8 x 8", "4 x 4", "2 x 8", "1 x 8", "1 x 1")
# Those that `export.device: cpu` searches by products of 8-bit integers.
_CPU_BITS = ("8 x 8", "4 x 4", "2 x 8")
_CPU = tuple(f"exact, {bits} bits, CPU" for bits in _CPU_BITS)
_OURS = ("exact, float32", *(f"exact, {bits} bits" for bits in _BITS), *_CPU, SCANN_MODEL)
_LIBRARIES = ("FAISS flat", "FAISS IVF", "FAISS binary", "usearch")
# A graph of five million items takes longer to build than all the others together.
_LARGEST = {"usearch": 1_000_000}
_KEY = ("rows", "dim", "num_items", "index", "seed")
_COLUMNS = (*_KEY, "ms_1", "ms_32", "recall", "bytes_per_item", "setting", "build_seconds", "machine", "commit")


def run(arguments: argparse.Namespace) -> None:
    """Measures what the CSV doesn't have."""
    if not _PYTHON.exists():
        raise SystemExit("FAISS and usearch are not installed; make their environment with `make .venv-ann/.installed`")
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.work / "ann.csv", _KEY, _COLUMNS)
    print(describe_run("benchmarks.ann"), flush=True)
    sources: list[int | Path] = [*arguments.dims, *arguments.run]
    for source in sources:
        rows = source.name if isinstance(source, Path) else "clusters"
        for num_items in (int(float(size)) for size in arguments.sizes):
            with tempfile.TemporaryDirectory() as folder:
                dim = _write_rows(Path(folder), source, num_items, arguments.seed)
                kind = {"rows": rows, "dim": dim, "num_items": num_items, "seed": arguments.seed}
                for name in (_REFERENCE, *_OURS, "ScaNN alone", *_LIBRARIES):
                    if num_items > _LARGEST.get(name, num_items) or {**kind, "index": name} in cells:
                        continue
                    print(f"{num_items:,} items of {rows}, {dim} dimensions, {name}", flush=True)
                    started = {"index": name, "machine": machine(), "commit": commit()}
                    cells.add({**kind, **started, **_measure(name, folder)})
    print(markdown(cells.rows))


def markdown(rows: list[dict[str, str]]) -> str:
    """The table of benchmarks/README.md."""
    lines = []
    kinds = sorted({(row["rows"], int(row["dim"]), int(row["num_items"])) for row in rows})
    for kind in kinds:
        here = [row for row in rows if (row["rows"], int(row["dim"]), int(row["num_items"])) == kind]
        reference = next(row for row in here if row["index"] == _REFERENCE)
        lines += [
            f"{kind[2]:,} items of {kind[1]} dimensions ({kind[0]}); median milliseconds of a call, in brackets how "
            "many times as fast as TensorFlow's:",
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
    parser.add_argument("--dims", nargs="*", type=int, default=[64, 256], help="dimensions of the generated rows")
    parser.add_argument("--run", nargs="*", type=Path, default=[], help="run directories whose rows are repeated")
    parser.add_argument("--seed", type=int, default=2020)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    else:
        print(markdown(Cells(arguments.work / "ann.csv", _KEY, _COLUMNS).rows))


def _write_rows(folder: Path, source: int | Path, num_items: int, seed: int) -> int:
    """Write the rows, the queries and the K best items of each; returns the dimensions."""
    is_run = isinstance(source, Path)
    items, queries = repeat(source, num_items, seed) if is_run else generate(num_items, source, seed)
    exact = np.empty((len(queries), K), np.int64)
    for first in range(0, len(queries), 32):
        scores = queries[first : first + 32] @ items.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        exact[first : first + 32] = best
    for name, values in (("items", items), ("queries", queries), ("exact", exact)):
        np.save(folder / f"{name}.npy", values)
    return items.shape[1]


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
