"""Training from a split dataset to a run directory that can be interrupted at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tf_keras

from tf_hqgnn.coding import make_codes
from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.evaluation import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.fitting import fit
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_ode import propagate_embeddings
from tf_hqgnn.models.hqgnn import make_model
from tf_hqgnn.report.page import write_report
from tf_hqgnn.run_directory import RunDirectory, partial_path
from tf_hqgnn.types import InputError


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Args:
      run_dir: what it left behind.
      epochs: of the full-precision training.
      best_epoch: the one that was kept.
      seconds: all together, learning codes included.
      valid: metrics on the validation split of the rows that are served: coded, if the settings say so.
      full_precision: those of the rows before they were coded; None where they aren't.
      popularity: those of recommending the most popular items.
    """

    run_dir: Path
    epochs: int
    best_epoch: int
    seconds: float
    valid: dict[str, float]
    full_precision: dict[str, float] | None
    popularity: dict[str, float]


def train(dataset: SplitDataset, config: Config, out: Path, resume: bool = False) -> TrainResult:
    """Trains, keeps the best epoch by validation NDCG@20 with the propagation applied, makes codes, and writes the
    run directory.

    Everything is written to `OUT.partial`, which is renamed to `OUT` at the end. Killed at any moment, the same call
    with `resume` continues from the last checkpoint and ends with the same metrics as an uninterrupted run. Without
    validation interactions the last epoch is the result.

    Args:
      dataset: ids and splits.
      config: all settings; `config.data` is only recorded.
      out: the run directory; must not exist.
      resume: go on from `OUT.partial` if it is there.

    Raises:
      InputError: `out` exists, an unfinished run is in the way, or it was made with other settings or data.
      DivergenceError: The loss is no longer finite.
    """
    out = Path(out)
    partial = _prepare(dataset, config, out, resume)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    (partial / "graph").mkdir(exist_ok=True)
    graph.save(partial / "graph" / "graph.npz")

    def validate(users: np.ndarray, items: np.ndarray) -> dict[str, float]:
        """Metrics on the validation split, training items masked; none where the split is empty."""
        if not len(dataset.valid):
            return {}
        chunk, popularity = config.evaluation.chunk_size, graph.item_degree
        return evaluate_embeddings(users, items, dataset.valid, graph.seen(), popularity, ks, chunk_size=chunk).values

    def embeddings() -> tuple[np.ndarray, np.ndarray]:
        """The encoder's rows, with the post-training propagation (if any) applied."""
        return propagate_embeddings(graph, *model.embeddings(), config.propagation)

    ks = tuple(sorted({*config.evaluation.k, 20}))  # early stopping watches NDCG@20
    tf_keras.utils.set_random_seed(config.seed)
    model = make_model(config, graph)
    state = fit(model, dataset.train, config.training, config.seed, lambda: validate(*embeddings()), partial)
    users, items = embeddings()
    np.savez(partial / "embeddings.npz", user=users, item=items)
    valid, full_precision, coding_seconds = validate(users, items), None, 0.0
    if config.quantization.bits is not None:
        began = time.monotonic()
        judge = validate if len(dataset.valid) else None
        coded = make_codes(model, users, items, dataset.train, graph, config, judge, partial / "quantization")
        (partial / "codes").mkdir(exist_ok=True)
        coded.save(partial / "codes")
        valid, full_precision = validate(*coded.dequantize()), valid
        coding_seconds = time.monotonic() - began
    popularity: dict[str, float] = {}
    if len(dataset.valid):
        chunk = config.evaluation.chunk_size
        popularity = evaluate_popularity(dataset.valid, graph.seen(), graph.item_degree, ks, chunk_size=chunk).values
    result = TrainResult(
        run_dir=out,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        seconds=round(state.seconds + coding_seconds, 3),
        valid=valid,
        full_precision=full_precision,
        popularity=popularity,
    )
    report = {name: value for name, value in vars(result).items() if name != "run_dir"}
    (partial / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    write_report(RunDirectory.load(partial), partial / "report.html")
    os.rename(partial, out)
    return result


def check_out(out: Path, resume: bool) -> None:
    """Raises InputError if `out` can't become a run directory, so that a caller learns it before reading data."""
    if out.exists():
        raise InputError(f"{out} exists already; choose another --out, or delete it")
    partial = partial_path(out)
    if partial.exists() and not resume:
        raise InputError(f"{partial} holds an unfinished run; add --resume to go on with it, or delete it")


def _prepare(dataset: SplitDataset, config: Config, out: Path, resume: bool) -> Path:
    """Makes or checks `OUT.partial` and returns it."""
    check_out(out, resume)
    if len(dataset.train) < 2:
        raise InputError(f"training needs at least 2 interactions, the train split has {len(dataset.train)}")
    partial = partial_path(out)
    fingerprint = _fingerprint(dataset)
    if (partial / "data.sha256").is_file():
        if Config.load(partial / "config.yaml") != config:
            raise InputError(
                f"{partial} was started with other settings (its config.yaml); resume with those, or delete it"
            )
        if (partial / "data.sha256").read_text(encoding="utf-8") != fingerprint:
            raise InputError(f"{partial} was started on other data; resume with the same log, or delete it")
        return partial
    # Nothing, or a start that was killed before it was complete.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    dataset.save(partial / "data")
    (partial / "data.sha256").write_text(fingerprint, encoding="utf-8")
    return partial


def _fingerprint(dataset: SplitDataset) -> str:
    digest = hashlib.sha256()
    for ids in (dataset.user_ids, dataset.item_ids):
        digest.update("\x00".join(ids).encode())
    for part in (dataset.train, dataset.valid, dataset.test):
        digest.update(part.user_index.tobytes())
        digest.update(part.item_index.tobytes())
    return digest.hexdigest()
