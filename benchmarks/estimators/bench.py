"""One cell: the codes that one estimator trains on one data set with one seed, and how well they rank."""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import ROOT, commit, machine
from benchmarks.estimators.variants import DATA, PARTS, variant_settings
from tf_hqgnn import __version__
from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.coding import make_codes
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions

KEY = ("part", "data", "model", "bits", "seed", "variant")
METRICS = ("ndcg", "recall")
COLUMNS = (
    *KEY,
    "k",
    *(f"{split}_{metric}" for split in ("valid", "test") for metric in METRICS),
    "epochs",
    "delta_items",
    "gradient_change_users",
    "gradient_change_items",
    "flipped_items",
    "bytes_per_item",
    "settings",
    "seconds",
    "version",
    "commit",
    "machine",
)


class Bench:
    """One part, data set, model and seed.

    Args:
      work: folder in which full-precision models are kept, those that codes are distilled from.
      part: of PARTS.
      data: of DATA.
      model: of the part.
      seed: of the split, the training and the codes.
      overrides: more settings, which win over those of the part and the variant.
    """

    def __init__(
        self, work: Path, part: str, data: str, model: str, seed: int, overrides: tuple[str, ...] = ()
    ) -> None:
        self._part, self._overrides, self._k = part, overrides, PARTS[part].k
        self._file = ROOT / "configs" / PARTS[part].models[model]
        self._chosen = (*DATA[data], f"seed={seed}")
        full = Config.load(self._file, (*self._chosen, "quantization.bits=null"))
        self._tables: tuple[np.ndarray, np.ndarray] | None = None
        if part == "distillation":
            run_dir = work / f"{model}-{data}-{seed}"
            if not run_dir.exists():
                train(load_dataset(full.data, seed), full, run_dir, resume=True)
            run = RunDirectory.load(run_dir)
            self._tables = run.user_embeddings, run.item_embeddings
            self._dataset, self._graph = run.dataset, run.graph
        else:
            dataset = self._dataset = load_dataset(full.data, seed)
            self._graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)

    def measure(self, bits: int, variant: str) -> dict[str, Any]:
        """Trains the codes of one cell and judges them."""
        settings = (f"quantization.bits={bits}", *PARTS[self._part].settings(bits))
        settings += (*variant_settings(variant, self._part, bits), *self._overrides)
        config = Config.load(self._file, (*self._chosen, *settings))
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="estimators-") as folder:
            model = make_model(config, self._graph, initialize=False)
            tables = self._tables or (model.user_table.numpy(), model.item_table.numpy())
            coded = make_codes(
                model, *tables, self._dataset.train, self._graph, config, self._valid, Path(folder) / "codes"
            )
            logged = summary(Path(folder) / "codes" / "history.csv")
        seconds = time.monotonic() - began
        rows = coded.dequantize()
        judged = {"valid": self._valid(*rows), "test": self._test(*rows)}
        return {
            **{
                f"{split}_{metric}": values[f"{metric}@{self._k}"]
                for split, values in judged.items()
                for metric in METRICS
            },
            **logged,
            "k": self._k,
            "bytes_per_item": coded.items.bytes_per_item,
            "settings": " ".join(settings),
            "seconds": round(seconds, 1),
            "version": __version__,
            "commit": commit(),
            "machine": machine(),
        }

    def _valid(self, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
        return self._judge(self._dataset.valid, (), users, items)

    def _test(self, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
        return self._judge(self._dataset.test, (self._dataset.valid,), users, items)

    def _judge(
        self, targets: Interactions, known: tuple[Interactions, ...], users: np.ndarray, items: np.ndarray
    ) -> dict[str, float]:
        seen = self._dataset.masked(self._dataset.train, *known)
        return evaluate_embeddings(users, items, targets, seen, self._graph.item_strength, (20, self._k)).values


def summary(history: Path) -> dict[str, float]:
    """What the history of a training of codes says: its epochs, the last delta, and means over epochs."""
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def mean(name: str) -> float:
        values = [float(row[name]) for row in rows if row.get(name)]
        return float(np.mean(values)) if values else 0.0

    names = ("gradient_change_users", "gradient_change_items", "flipped_items")
    means = {name: round(mean(name), 5) for name in names}
    return {"epochs": len(rows), "delta_items": float(rows[-1].get("delta_items") or 0.0), **means}
