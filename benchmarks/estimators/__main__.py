"""Gradient estimators compared, with enough seeds: `python -m benchmarks.estimators run --work DIR`, then `page`.

`scratch` is the paper's setting: users and items of 1 or 2 bits with one learned range each, trained from scratch by
BPR under LightGCN or NGCF. `distillation` is ours: items of 1 or 2 bits that learn to rank as a full-precision model.

A seed decides the split, the training and the codes, and all estimators get the same, so that their differences are
paired. Every cell becomes a row of DIR/cells.csv as soon as it is done, and is not done again: the same call goes on
where the last one stopped, and calls for parts (`--seeds`, `--variants`, `--minutes`) add up. `page` makes the page
and the figure from results/estimators.csv, where finished cells belong.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tf_keras

from benchmarks.cells import Cells
from benchmarks.estimators.bench import COLUMNS, KEY, Bench
from benchmarks.estimators.page import CELLS, write_page
from benchmarks.estimators.variants import BITS, DATA, PARTS, RIVALS, VARIANTS
from tf_hqgnn.logs import quieten_libraries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure the cells that are missing")
    run.add_argument("--work", type=Path, required=True, help="folder of full-precision models and of cells.csv")
    run.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    run.add_argument("--data", nargs="+", choices=tuple(DATA), help="default: those of the part")
    run.add_argument("--models", nargs="+", help="default: all of the part")
    run.add_argument("--bits", nargs="+", type=int, choices=BITS, default=list(BITS))
    run.add_argument("--seeds", nargs="+", type=int, default=list(range(2020, 2030)))
    run.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=list(RIVALS))
    run.add_argument("--minutes", type=float, default=float("inf"), help="start no cell after this time")
    run.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="settings of all cells")
    page = commands.add_parser("page", help="make the page and the figure from the cells")
    page.add_argument("--cells", type=Path, default=CELLS)
    arguments = parser.parse_args()
    if arguments.command == "page":
        write_page(arguments.cells)
    else:
        quieten_libraries()
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Measures the missing cells, all estimators of one seed before the next seed."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.work / "cells.csv", KEY, COLUMNS)
    end = time.monotonic() + 60 * arguments.minutes
    for seed in arguments.seeds:
        for part in arguments.parts:
            for data in arguments.data or PARTS[part].data:
                for model in PARTS[part].models:
                    if arguments.models and model not in arguments.models:
                        continue
                    group = {"part": part, "data": data, "model": model, "seed": seed}
                    measure_group(arguments, cells, group, end)


def measure_group(arguments: argparse.Namespace, cells: Cells, group: dict[str, object], end: float) -> None:
    """Measures what is missing of one part, data set, model and seed."""
    wanted = [{**group, "bits": bits, "variant": variant} for bits in arguments.bits for variant in arguments.variants]
    missing = [key for key in wanted if key not in cells]
    if not missing or time.monotonic() > end:
        return
    sizes = (group[name] for name in ("part", "data", "model", "seed"))
    bench = Bench(arguments.work, *sizes, tuple(arguments.set))
    for key in missing:
        if time.monotonic() > end:
            return
        row = {**key, **bench.measure(key["bits"], key["variant"])}
        cells.add(row)
        shown = f"test ndcg {row['test_ndcg']:.4f}, valid {row['valid_ndcg']:.4f}, {row['seconds']:.0f} s"
        print(*(key[name] for name in KEY), shown, flush=True)
        tf_keras.backend.clear_session()


if __name__ == "__main__":
    main()
