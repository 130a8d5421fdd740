"""An epoch and a validation of tf_hqgnn against RecBole's, in turns on the same split: `python -m benchmarks.epochs`.

Needs RecBole's environment, `make .venv-recbole/.installed`. tf_hqgnn trains by `--config`, RecBole's LightGCN (which
LightGODE stands in for) and BPR (which has no convolution either, and one negative a pair) by the settings of
`benchmarks.peers`. A validation ranks the whole catalogue for every user with a validation item. A cell is a data set
and a model of RecBole; done cells aren't measured again, and `--out` gets a row for each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.cells import ROOT, Cells, commit, commits, machine, machines
from benchmarks.peers.comparison import DATA
from benchmarks.peers.models import PEERS
from benchmarks.recbole import peer
from benchmarks.recbole.turns import TURN, take_turns
from benchmarks.timing import describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.logs import quieten_libraries

_MODELS = ("LightGCN", "BPR")
_SIDES = ("ours", "RecBole")
_KEY = ("data", "model", "config", "seed")
_COLUMNS = (
    *_KEY,
    *(f"{what}_{side}_{unit}" for what in ("train", "validation") for side in _SIDES for unit in ("seconds", "cpu")),
    "turns",
    "machine",
    "commit",
)


def measure(data: str, model: str, config: Config, repetitions: int, turn_epochs: int) -> dict[str, float]:
    """Seconds of an epoch and of a validation on both sides, the median of the turns."""
    dataset = load_dataset(DATA[data], config.seed)
    (settings,) = PEERS[f"recbole-{model}"].grid(dataset.num_items)
    settings = peer.base_settings(model, config.seed, config.evaluation.chunk_size) | settings
    with tempfile.TemporaryDirectory() as folder:
        peer.write_dataset(Path(folder), settings, dataset)
        found = take_turns(dataset, config, Path(folder), repetitions, turn_epochs)
    return {
        f"{what}_{side}_{unit}": float(value)
        for what, sides in found.items()
        for side in _SIDES
        for unit, value in zip(("seconds", "cpu"), np.median(sides[side], axis=0))
    }


def markdown(rows: list[dict[str, str]]) -> str:
    """The table of benchmarks/README.md."""
    lines = [
        "Seconds (of processor time), median of the turns; ratios of RecBole's to ours:",
        "",
        "| data | RecBole's model | epoch: ours | RecBole | ratio | validation: ours | RecBole | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = []
        for what in ("train", "validation"):
            values = {(s, u): float(row[f"{what}_{s}_{u}"]) for s in _SIDES for u in ("seconds", "cpu")}
            cells += [f"{values[side, 'seconds']:.2f} ({values[side, 'cpu']:.2f})" for side in _SIDES]
            ratios = [values["RecBole", unit] / values["ours", unit] for unit in ("seconds", "cpu")]
            cells.append(f"**{ratios[0]:.1f}** ({ratios[1]:.1f})")
        lines.append(f"| {row['data']} | {row['model']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{machines(rows, 'a cell')} {commits(rows)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=["ml-100k", "beauty", "gowalla"])
    parser.add_argument("--models", nargs="+", choices=_MODELS, default=list(_MODELS))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "default.yaml")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--repetitions", type=int, default=3, help="turns, after one to warm up")
    parser.add_argument("--turn", type=int, default=TURN, help="epochs of a turn")
    parser.add_argument("--out", type=Path, default=Path("epochs.csv"), help="CSV to write")
    arguments = parser.parse_args()
    peer.check_environment()
    quieten_libraries()
    print(describe_run("benchmarks.epochs"), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.out, _KEY, _COLUMNS)
    config = Config.load(arguments.config, (f"seed={arguments.seed}",))
    for data in arguments.data:
        for model in arguments.models:
            key = {"data": data, "model": model, "config": arguments.config.stem, "seed": arguments.seed}
            if key in cells:
                continue
            print(f"{data}, {model}", flush=True)
            started = {"machine": machine(), "commit": commit(), "turns": arguments.repetitions}
            cells.add({**key, **started, **measure(data, model, config, arguments.repetitions, arguments.turn)})
    print(markdown(cells.rows))


if __name__ == "__main__":
    main()
