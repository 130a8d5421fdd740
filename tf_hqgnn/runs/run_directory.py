"""The run directory: what a training leaves behind, and all that evaluation and export need."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.evaluation.metrics import RankingMetrics
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.features.model import FEATURES_FILE, FeatureModels
from tf_hqgnn.files.reading import read_arrays, read_json
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.runs.manifest import CURE, check_manifest, served_folder
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.types import Float32Array, InputError, concatenate

_MASKS_BEFORE = ("untrained_user", "untrained_item")


@dataclass(frozen=True)
class RunDirectory:
    """A finished training run.

    Args:
      path: its folder.
      config: the settings that it was trained with, and the propagation that was found.
      dataset: ids and splits.
      graph: of the training interactions, and those of validation if it was refitted.
      user_embeddings: float32 [U, d], propagated, in full precision.
      item_embeddings: float32 [I, d], likewise.
      coded: the codes of both, which are what is served; None if the settings ask for none.
      metrics: what training reported: epochs, seconds, `valid` and `popularity` metrics.
      is_refitted: whether these are the tables of a refit on the whole log (see `served`), and `path` its folder.
      features: what was learnt of features.
      unknown: the users and items whose rows nothing has taught; None where nobody noted it.
    """

    path: Path
    config: Config
    dataset: SplitDataset
    graph: InteractionGraph
    user_embeddings: Float32Array
    item_embeddings: Float32Array
    coded: CodedEmbeddings | None
    metrics: dict[str, Any]
    is_refitted: bool = False
    features: FeatureModels = field(default_factory=FeatureModels)
    unknown: Untrained | None = None

    @staticmethod
    def load(path: Path) -> RunDirectory:
        """Read a run directory.

        Raises:
          InputError: `path` isn't a finished run, or a file of it is damaged.
        """
        path = Path(path)
        if not (path / "metrics.json").is_file():
            if partial_path(path).exists():
                raise InputError(
                    f"{path} is not the directory of a finished run (no metrics.json); its training was interrupted: "
                    "run `tf-hqgnn train` with --resume"
                )
            # Only to say what was named instead.
            from tf_hqgnn.export.folder_kinds import not_a_run

            raise InputError(not_a_run(path))
        check_manifest(path)
        config = Config.load(path / "config.yaml")
        model = _read_model(path, config)
        return RunDirectory(
            path=path,
            config=config,
            dataset=SplitDataset.load(path / "data"),
            metrics=read_json(path / "metrics.json", cure=CURE),
            **model,
        )

    def served(self) -> RunDirectory:
        """Return the model that is served: the one refitted on the whole log, where there is one.

        Its dataset has all interactions in `train`; the metrics are those of the model that was judged.

        Raises:
          InputError: A file is damaged.
        """
        folder = self.path if self.is_refitted else served_folder(self.path, self.metrics)
        if folder == self.path:
            return self
        dataset = self.dataset
        nothing = dataset.valid.take(np.zeros(0, np.int64))
        everything = concatenate(dataset.train, dataset.valid, dataset.test)
        return replace(
            self,
            path=folder,
            dataset=replace(dataset, train=everything, valid=nothing, test=nothing),
            is_refitted=True,
            **_read_model(folder, self.config),
        )

    def tables(self) -> TrainedTables:
        """Return the trained tables before propagation, those of the refit where there was one.

        Raises:
          InputError: It is a run of version 0.1 that kept none, or they don't fit the ids.
        """
        tables = TrainedTables.load(self.path)
        found = tables.users.shape, tables.items.shape
        dim = self.config.model.embedding_dim
        expected = (self.dataset.num_users, dim), (self.dataset.num_items, dim)
        if found != expected:
            raise InputError(
                f"{self.path}: its trained tables have the shapes {found}, expected {expected}; train again"
            )
        return tables

    def evaluate(self, split: str, ks: tuple[int, ...]) -> Evaluation:
        """Measure the run on a split, by ranking all items that are available (see evaluation/stock.py).

        Args:
          split: `valid` (training items are masked) or `test` (training and validation items are masked).
          ks: cut-offs.

        Raises:
          InputError: The split is empty, or the model was refitted on it.
        """
        dataset = self.dataset
        if split == "valid" and self.config.training.refit is True:
            raise InputError(
                f"{self.path} was refitted on its validation split (training.refit), which can't judge it any more; "
                "its metrics from before are in metrics.json: evaluate --split test"
            )
        targets = dataset.valid if split == "valid" else dataset.test
        if not len(targets):
            raise InputError(f"the {split} split of {self.path} is empty; set data.split.{split} when training")
        if not len(in_stock(targets, dataset.available)):
            raise InputError(
                f"none of the items in the {split} split of {self.path} is available, so nothing of it can be "
                "recommended; check the column available of data.items_path"
            )
        seen = dataset.masked(dataset.train, *(() if split == "valid" else (dataset.valid,)))
        popularity, settings = self.graph.item_strength, (ks, self.config.evaluation.chunk_size, dataset.available)

        unknown = None if self.unknown is None else (self.unknown.users, self.unknown.items)

        def judge(users: Float32Array, items: Float32Array) -> RankingMetrics:
            return evaluate_embeddings(users, items, targets, seen, popularity, *settings, unknown)

        full_precision = judge(self.user_embeddings, self.item_embeddings)
        return Evaluation(
            metrics=full_precision if self.coded is None else judge(*self.coded.dequantize()),
            full_precision=None if self.coded is None else full_precision,
            popularity=evaluate_popularity(targets, seen, popularity, *settings),
        )


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a run on one of its splits, beside those of popularity.

    Args:
      metrics: of the rows that are served.
      full_precision: of the rows before they were coded; None if they aren't.
      popularity: of recommending the most popular items.
    """

    metrics: RankingMetrics
    full_precision: RankingMetrics | None
    popularity: RankingMetrics


def _read_model(folder: Path, config: Config) -> dict[str, Any]:
    """The graph, the rows and the codes in a folder, as arguments of a RunDirectory."""
    masks = ("unknown_user", "unknown_item")
    arrays = read_arrays(folder / "embeddings.npz", "user", "item", cure=CURE, optional=(*masks, *_MASKS_BEFORE))
    # Until 0.2 features taught nobody anything.
    masks = masks if masks[0] in arrays else _MASKS_BEFORE
    return {
        "graph": InteractionGraph.load(folder / "graph" / "graph.npz"),
        "user_embeddings": arrays["user"],
        "item_embeddings": arrays["item"],
        "coded": None if config.quantization.bits is None else CodedEmbeddings.load(folder / "codes"),
        "features": FeatureModels.load(folder / FEATURES_FILE, CURE),
        "unknown": Untrained(arrays[masks[0]], arrays[masks[1]]) if masks[0] in arrays else None,
    }


def partial_path(path: Path) -> Path:
    """Return the name that the run directory `path` has until its training is finished."""
    return path.with_name(path.name + ".partial")
