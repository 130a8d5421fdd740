"""The table and the figure of README.md from results/peers.csv: `python -m benchmarks.overview` draws the figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.cells import ROOT

_FIGURE = ROOT / "docs" / "images" / "accuracy.svg"
_LOGS = {"ml-100k": "MovieLens 100K", "beauty": "Amazon Beauty", "toys": "Amazon Toys", "gowalla": "Gowalla"}
# The preset of ours that stands for a log: the first of these that was measured on it.
_TRAINED = ("auto", "movielens", "wide_8bit", "gowalla training.refit=false")
_UNTRAINED = (
    "spectral",
    "spectral model.embedding_dim=32 quantization.bits=null",
    "spectral model.spectral_iterations=2 model.embedding_dim=512",
)
_PEERS = {"recbole-EASE": "EASE", "implicit-als": "ALS (implicit)", "GF-CF": "GF-CF", "recbole-LightGCN": "LightGCN"}
_NUM_PEERS = 2


class Bar(NamedTuple):
    """A model on a log.

    Args:
      name: as shown.
      preset: of ours, else empty.
      recall: at 20, mean over seeds, on the test split.
      ndcg: likewise.
      seconds: of its training, mean over seeds.
      item_bytes: what an item takes in memory.
    """

    name: str
    preset: str
    recall: float
    ndcg: float
    seconds: float
    item_bytes: float


def bars(rows: Sequence[dict[str, str]], log: str) -> list[Bar]:
    """Ours, ours without training, and the peers that have them all, best first."""
    of_log = [row for row in rows if row["data"] == log and not row["epochs_limit"]]
    ours = [_first(of_log, _TRAINED, "tf_hqgnn"), _first(of_log, _UNTRAINED, "untrained")]
    peers = [
        _bar([row for row in of_log if row["model"] == model], name)
        for model, name in _PEERS.items()
        if any(row["model"] == model for row in of_log)
    ]
    return [*ours, *sorted(peers, key=lambda bar: -bar.ndcg)]


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """Both of ours and the best two peers of each log."""
    lines = [
        "| log | model | Recall@20 | NDCG@20 | seconds | bytes an item |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for log, title in _LOGS.items():
        shown = bars(rows, log)[: 2 + _NUM_PEERS]
        best = max(bar.ndcg for bar in shown)
        for bar in shown:
            name = f"tf_hqgnn ({bar.preset})" if bar.preset else bar.name
            ndcg = f"**{bar.ndcg:.4f}**" if bar.ndcg == best else f"{bar.ndcg:.4f}"
            seconds = f"{bar.seconds:.1f}" if bar.seconds < 100 else f"{bar.seconds:.0f}"
            lines.append(f"| {title} | {name} | {bar.recall:.4f} | {ndcg} | {seconds} | {bar.item_bytes:,.0f} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, str]]) -> None:
    """A panel a log: NDCG@20 as bars, with seconds and bytes in them."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tf_hqgnn", "font.family": "sans-serif"})
    figure, axes = plt.subplots(2, len(_LOGS) // 2, figsize=(8.4, 4.4), layout="constrained")
    for axis, (log, title) in zip(axes.flat, _LOGS.items()):
        shown = bars(rows, log)[::-1]
        axis.barh(
            [bar.name for bar in shown],
            [bar.ndcg for bar in shown],
            color=["#00796b" if bar.preset else "#6f6f6f" for bar in shown],
        )
        for place, bar in enumerate(shown):
            text = f"{bar.ndcg:.3f} · {bar.seconds:,.0f} s · {bar.item_bytes:,.0f} B"
            text = text.replace(" 0 s", f" {bar.seconds:.1f} s")
            axis.text(bar.ndcg * 0.02, place, text, va="center", color="white", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.tick_params(labelsize=8, length=0)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    figure.savefig(_FIGURE, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _first(rows: Sequence[dict[str, str]], configs: Sequence[str], name: str) -> Bar:
    for config in configs:
        found = [row for row in rows if row["model"] == "tf_hqgnn" and row["config"] == config]
        if found:
            return _bar(found, name, config.split()[0])
    raise SystemExit(f"results/peers.csv has none of {', '.join(configs)}")


def _bar(rows: Sequence[dict[str, str]], name: str, preset: str = "") -> Bar:
    means = [np.mean([float(row[key]) for row in rows]) for key in ("recall@20", "ndcg@20", "seconds", "item_bytes")]
    return Bar(name, preset, *map(float, means))


if __name__ == "__main__":
    with (ROOT / "benchmarks" / "results" / "peers.csv").open(newline="", encoding="utf-8") as file:
        draw(list(csv.DictReader(file)))
