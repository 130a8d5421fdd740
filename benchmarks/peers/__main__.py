"""tf_hqgnn and its peers in one run: `python -m benchmarks.peers run --work DIR`, then `... report --work DIR`.

Every model is trained in a process of its own, in its library's environment, on the split files that tf_hqgnn's loader
made once, and judged by tf_hqgnn.evaluation on the whole catalogue, what was seen masked. A model with a grid is
trained with each of its settings; validation NDCG@20 chooses. `--refit` then trains on train and validation together,
with what was chosen, before the test. Training time is that of the chosen settings (with the refit and the fit that
found its number of epochs), validations for early stopping included, reading data and the judge's ranking not; what the
whole grid took stands beside it. Ours without epochs and without a search for a propagation has nothing to choose, as
closed forms have, so its validation split isn't looked at. RecBole 1.2.1 has no DirectAU.

A cell becomes a row of DIR/peers.csv as soon as it is done and isn't done again: the same call goes on where the last
one stopped, and calls for parts add up. `--epochs` makes a cell for each limit: points of a curve.
`--max-seconds` ends trainings of RecBole that would take hours; their rows say so.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.cells import ROOT
from benchmarks.peers.comparison import DATA, Comparison, open_cells
from benchmarks.peers.models import PEERS, ours
from benchmarks.peers.report import OURS, report
from benchmarks.timing import describe_run
from tf_hqgnn.logs import quieten_libraries


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the splits, peers.csv and the plot")
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=(OURS, *PEERS), default=[OURS, *PEERS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020], help="of splits and trainings")
    parser.add_argument("--refit", action="store_true", help="train on train and validation once settings are chosen")
    parser.add_argument(
        "--epochs", nargs="+", type=int, default=[], help="limits of epochs or iterations, a cell each; 0: the start"
    )
    parser.add_argument("--max-seconds", type=float, help="of a training of RecBole")
    parser.add_argument(
        "--config", nargs="+", type=Path, default=[ROOT / "configs" / "default.yaml"], help=f"settings of {OURS}"
    )
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=f"of {OURS}")
    arguments = parser.parse_args()
    cells = open_cells(arguments.work)
    if arguments.command == "report":
        if not cells.rows:
            parser.error(f"no results in {arguments.work} yet: `run` comes first")
        report([row for row in cells.rows if row["data"] in arguments.data], arguments.work / "peers.png")
        return
    quieten_libraries()
    print(describe_run("benchmarks.peers"), flush=True)
    chosen = []
    for name in arguments.models:
        if name == OURS:
            labels = [" ".join([path.stem, *arguments.set]) for path in arguments.config]
            chosen += [(name, text, ours(path, tuple(arguments.set))) for text, path in zip(labels, arguments.config)]
        else:
            chosen.append((name, "", PEERS[name]))
    for _, _, model in chosen:
        model.check()
    failed = []
    for data, seed in itertools.product(arguments.data, arguments.seeds):
        comparison = Comparison(arguments.work, data, seed)
        for (name, text, model), limit in itertools.product(chosen, arguments.epochs or [None]):
            key = comparison.key(name, model, text, limit, arguments.max_seconds, arguments.refit)
            if key in cells:
                continue
            what = " ".join(str(value) for value in key.values() if value is not False and value != "")
            print(what, flush=True)
            try:
                if shortage := comparison.shortage(model):
                    raise MemoryError(shortage)
                row = comparison.row(key, model)
            except (MemoryError, subprocess.CalledProcessError) as error:
                # One model that fails leaves the others their turn.
                failed.append(f"{what}: {error}")
                print(f"  failed: {error}", flush=True)
                continue
            cells.add(row)
            comparison.forget(key)
            figures = f"Recall@20 {row['recall@20']:.4f}, NDCG@20 {row['ndcg@20']:.4f}"
            print(f"  test {figures}, {row['seconds']:.1f} s, {row['peak_bytes'] / 2**20:,.0f} MiB", flush=True)
    if failed:
        sys.exit("not done:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
