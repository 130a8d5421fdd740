"""What `diversity` and `popularity` cost and bring, and `recommend_with_history` beside retraining.

    python -m benchmarks.wishes --work W

A fifth of each log's interactions, drawn at random, is for testing, and the preset `spectral` answers: it needs no
training. For each value of a wish of `recommend_where`, over all users and their 10 best items: NDCG@10; coverage, the
share of the catalogue that anybody is shown; and distance, the mean of 1 - cosine between the items of a list. The
other part holds out the last 5 interactions of each user of ml-100k by time: 4 are new, and the last is to be found.
Figures are kept in W/wishes.csv, the curves in W/wishes.png.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib
import numpy as np
import pandas as pd

from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn import Recommender
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.types import Array

matplotlib.use("agg")
import matplotlib.pyplot as plt

K = 10
_KEPT = 5
WISHES = {
    "diversity": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    # In standard deviations of a user's scores, which differ from model to model.
    "popularity": (-1.0, -0.7, -0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
}
_COLUMNS = ("data", "wish", "value", "ndcg@10", "coverage@10", "distance@10")


def read(data: str) -> pd.DataFrame:
    """The log, of beauty its 5-core."""
    log = pd.read_csv(SHARED_DATA / data / "interactions.csv", dtype={"user_id": str, "item_id": str})
    while data == "beauty":
        counts = [log[name].map(log[name].value_counts()) for name in ("user_id", "item_id")]
        kept = (counts[0] >= _KEPT) & (counts[1] >= _KEPT)
        if kept.all():
            break
        log = log[kept]
    return log.drop_duplicates(["user_id", "item_id"])


def ndcg(found: Array, wanted: list[set[str]]) -> float:
    """The mean NDCG of the items `found` [users, K]."""
    discounts = 1 / np.log2(np.arange(K) + 2)
    gains = [sum(discounts[rank] for rank, item in enumerate(row) if item in wish) for row, wish in zip(found, wanted)]
    return float(np.mean([gain / discounts[: len(wish)].sum() for gain, wish in zip(gains, wanted)]))


def curves(data: str) -> Iterator[tuple[str, str, float, float, float, float]]:
    """Rows of `_COLUMNS` of a log, for each value of each wish."""
    log = read(data)
    is_test = np.random.default_rng(0).random(len(log)) < 0.2
    model = Recommender("spectral", verbose=0, seed=0, **{"training.refit": False}).fit(log[~is_test])
    test = log[is_test].groupby("user_id")["item_id"].agg(set)
    test = test[test.index.isin(log[~is_test]["user_id"])]
    users, wanted = list(test.index), list(test)
    ids, rows = model.item_embeddings()
    units = dict(zip(ids, rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)))
    some = model.score(users[:200], list(ids), as_arrays=True)
    spread = float(np.nanmean(np.nanstd(some, axis=1)))
    for wish, values in WISHES.items():
        for value in values:
            scale = spread if wish == "popularity" else 1.0
            _, found = model.recommend_where(users, K, as_arrays=True, **{wish: value * scale})
            cosines = []
            for row in found:
                some = np.array([units[item] for item in row if item in units])
                if len(some) > 1:
                    cosines.append((np.square(some.sum(axis=0)).sum() - len(some)) / (len(some) * (len(some) - 1)))
            shown = len({item for row in found for item in row if item}) / len(ids)
            yield data, wish, value, ndcg(found, wanted), shown, 1 - float(np.mean(cosines))


def histories() -> Iterator[tuple[str, str, float, float, float, float]]:
    """Rows of `_COLUMNS`: NDCG@10 of the last interaction, without the 4 before it, with them, and after retraining."""
    log = read("ml-100k").sort_values(["user_id", "timestamp"], kind="stable")
    from_end = log.groupby("user_id").cumcount(ascending=False)
    last, new = log[from_end == 0], log[(from_end > 0) & (from_end < 5)]
    users, wanted = list(last["user_id"]), [{item} for item in last["item_id"]]
    lists = [list(new["item_id"][new["user_id"] == user]) for user in users]
    options = {"verbose": 0, "seed": 0}
    old = Recommender("spectral", **options).fit(log[from_end >= 5])
    retrained = Recommender("spectral", **options).fit(log[from_end >= 1])
    answers = {
        "new ones left out": old.recommend_where(users, K, exclude=lists, as_arrays=True)[1],
        "recommend_with_history": old.recommend_with_history(users, lists, K, as_arrays=True)[1],
        "recommend_for_history of the new": old.recommend_for_history(lists, K, as_arrays=True)[1],
        "retrained": retrained.recommend(users, K, as_arrays=True)[1],
    }
    for name, found in answers.items():
        yield "ml-100k by time", name, 4, ndcg(found, wanted), float("nan"), float("nan")


def draw(table: pd.DataFrame, path: Path) -> None:
    """NDCG beside coverage and distance, relative to no wish."""
    logs = [data for data in table["data"].unique() if data in ("ml-100k", "beauty")]
    figure, axes = plt.subplots(len(WISHES), len(logs), figsize=(10, 7), squeeze=False, layout="constrained")
    for row, wish in enumerate(WISHES):
        for column, data in enumerate(logs):
            axis, part = axes[row][column], table[(table["data"] == data) & (table["wish"] == wish)]
            plain = part[part["value"] == 0].iloc[0]
            for name in ("ndcg@10", "coverage@10", "distance@10"):
                axis.plot(part["value"], part[name] / plain[name], marker="o", label=f"{name} (1 is {plain[name]:.3f})")
            axis.set_title(data)
            axis.set_xlabel(wish if wish == "diversity" else f"{wish}, in standard deviations of scores")
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measures, prints and draws."""
    quieten_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["ml-100k", "beauty"], choices=["ml-100k", "beauty"])
    parser.add_argument("--work", required=True, type=Path, help="folder of the results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(describe_run("benchmarks.wishes"))
    with (arguments.work / "wishes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for rows in (histories(), *map(curves, arguments.data)):
            for row in rows:
                shown = [f"{value:.4f}" if isinstance(value, float) else value for value in row]
                writer.writerow(shown)
                file.flush()
                print(*shown, flush=True)
    draw(pd.read_csv(arguments.work / "wishes.csv"), arguments.work / "wishes.png")


if __name__ == "__main__":
    main()
