"""The component that judges a candidate by what its two SavedModels recommend on the test split."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tfx.components.evaluator import constants
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation, ModelRun

from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_popularity
from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.graph.csr import select_rows
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.annotations import InputArtifact, OutputArtifact, Parameter, component
from tf_hqgnn.tfx.baseline import Rankings, differences, rank_baseline
from tf_hqgnn.tfx.held_out_model import judged_model_dir
from tf_hqgnn.tfx.model_store import pointer_path, read_pointer
from tf_hqgnn.tfx.saved_model_ranking import load_recommend, overlap, rank_items
from tf_hqgnn.tfx.slices import make_slices, slice_overlap
from tf_hqgnn.tfx.thresholds import ANN_RECALL, Thresholds, Verdict, judge, lift
from tf_hqgnn.tfx.trainer import run_path
from tf_hqgnn.types import IntArray

METRICS_FILE = "metrics.json"
# The version of the model that was the last one pushed when the verdict was made, or null.
JUDGED_AGAINST = "judged_against"
_ANN_K = 20


@component
def RankingEvaluator(
    model: InputArtifact[Model],
    index: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
    config: Parameter[str],
    thresholds: Parameter[str],
    model_store: Parameter[str],
    store_state: Parameter[str] = "",
) -> None:
    """Ranks the whole catalogue through both SavedModels, judges, and blesses or not, as TFX's Evaluator does.

    Args:
      model: the exact model; judged is the one beside it that knows no held-out interaction (see held_out_model.py).
      index: the ScaNN model.
      model_run: the training that both come from; its test split is what they are judged on.
      evaluation: `metrics.json` with every figure, the thresholds and the verdict.
      blessing: `BLESSED` or `NOT_BLESSED`, and TFX's custom properties; the reasons are in `blessing_message`.
      config: YAML of a `Config`; `evaluation` counts.
      thresholds: JSON of `Thresholds`.
      model_store: folder of the pointer to the last blessed model.
      store_state: changes when that pointer does; TFX's cache can't see into files by itself.
    """
    del store_state
    settings, limits = Config.from_yaml(config), Thresholds.from_json(thresholds)
    pointer = read_pointer(Path(model_store))
    run = RunDirectory.load(run_path(model_run.uri))
    figures = evaluate_models(
        run,
        judged_model_dir(model.uri),
        judged_model_dir(index.uri),
        tuple(sorted({*settings.evaluation.k, _ANN_K})),
        settings.evaluation.chunk_size,
        limits,
        pointer,
    )
    verdict = judge(figures, limits, pointer["evaluation"] if pointer else None)
    record = {
        **figures,
        "refit": run.metrics.get("refit"),
        "thresholds": limits.model_dump(),
        "blessed": verdict.blessed,
        "reasons": list(verdict.reasons),
        "baseline": verdict.baseline,
        JUDGED_AGAINST: pointer["version"] if pointer else None,
    }
    Path(evaluation.uri).mkdir(parents=True, exist_ok=True)
    write_file(Path(evaluation.uri) / METRICS_FILE, json.dumps(record, indent=2, ensure_ascii=False))
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if pointer:
        baseline = str(pointer_path(Path(model_store)))
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline)
    write_blessing(blessing, verdict)


def evaluate_models(
    run: RunDirectory,
    exact_dir: Path,
    ann_dir: Path,
    ks: tuple[int, ...],
    chunk_size: int,
    limits: Thresholds,
    pointer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Test metrics of two SavedModels, of popularity and of the last blessed model; training and validation masked.

    Args:
      run: the training; its `dataset` and `graph` are used.
      exact_dir: SavedModel whose ranking is exact.
      ann_dir: SavedModel whose ranking is approximate.
      ks: cut-offs, 20 among them.
      chunk_size: users in one request.
      limits: the tolerances of the comparison.
      pointer: to the model that was blessed last, or None.

    Returns:
      `num_users`, `metrics`, `ann_metrics`, `popularity`, `ann_recall@20`, `lift`, `data_fingerprint`, `slices` and,
      with a pointer, `comparison`, ready for JSON. Without a user who has test items the metrics are empty.
    """
    dataset, popularity, degree = run.dataset, run.graph.item_strength, run.graph.item_degree
    # The SavedModels leave out by themselves what isn't available; so must targets and popularity.
    relevant_indptr, relevant = in_stock(dataset.test, dataset.available).to_csr(dataset.num_users)
    users = np.flatnonzero(np.diff(relevant_indptr))
    fingerprint = (run.path / "data.sha256").read_text(encoding="utf-8")
    if not len(users):
        empty: dict[str, float] = {}
        return {"split": "test", "num_users": 0, "metrics": empty, "data_fingerprint": fingerprint}
    targets = select_rows((relevant_indptr, relevant), users)
    # The model leaves out what it was trained on; validation items are seen, too, when testing.
    excluded = select_rows(dataset.valid.to_csr(dataset.num_users), users)
    tops = []
    for directory in (exact_dir, ann_dir):
        loaded, recommend = load_recommend(directory)
        tops.append(rank_items(recommend, dataset.user_ids[users], excluded, dataset.item_ids, max(ks), chunk_size))
        del loaded
    exact, approximate = (ranking_metrics(top, targets, ks, dataset.num_items, popularity) for top in tops)
    seen = dataset.masked(dataset.train, dataset.valid)
    baseline = evaluate_popularity(dataset.test, seen, popularity, ks, chunk_size, dataset.available)
    over_popularity = lift(exact.values, baseline.values)
    rankings = Rankings(users, targets, tops[0])
    figures = {
        "split": "test",
        "num_users": len(users),
        "metrics": exact.values,
        "ann_metrics": approximate.values,
        "popularity": baseline.values,
        ANN_RECALL: overlap(tops[0], tops[1], _ANN_K),
        # JSON has no infinity.
        "lift": over_popularity if math.isfinite(over_popularity) else None,
        "data_fingerprint": fingerprint,
        "slices": _slices(dataset, degree, rankings, tops[1], limits),
    }
    if pointer is not None:
        compared, note = rank_baseline(pointer, dataset, exact_dir, rankings, chunk_size)
        tolerances = limits.max_drop, limits.max_slice_drop
        parts = [] if compared is None else differences(compared, dataset, degree, *tolerances)
        figures["comparison"] = {"note": note, "slices": [asdict(part) for part in parts]}
    return figures


def _slices(
    dataset: SplitDataset, item_degree: IntArray, rankings: Rankings, approximate: IntArray, limits: Thresholds
) -> list[dict[str, Any]]:
    """Every slice of the candidate: users, NDCG@20, Recall@20, and what ScaNN finds; whether that is enough to judge.

    As `differences` without a baseline, in the same order, that of all users left out.
    """
    degree = np.bincount(dataset.train.user_index, minlength=dataset.num_users)[rankings.users]
    alone = differences(rankings, dataset, item_degree, 0.0, 0.0)[1:]
    records = []
    for part, found in zip(make_slices(degree, item_degree), alone):
        shares = slice_overlap(rankings.candidate, approximate, part, _ANN_K)
        shares = shares[np.isfinite(shares)]
        records.append(
            {
                "name": part.name,
                "num_users": found.num_users,
                "ndcg@20": found.ndcg,
                "recall@20": found.recall,
                "ann_users": len(shares),
                "ann_recall": float(shares.mean()) if len(shares) else 1.0,
                "ann_recall_error": float(shares.std(ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else 0.0,
                "judged": found.num_users >= limits.min_slice_users,
            }
        )
    return records


def write_blessing(blessing: Artifact, verdict: Verdict) -> None:
    """Marks a ModelBlessing as TFX's Evaluator does, and keeps the reasons in words."""
    name = constants.BLESSED_FILE_NAME if verdict.blessed else constants.NOT_BLESSED_FILE_NAME
    value = constants.BLESSED_VALUE if verdict.blessed else constants.NOT_BLESSED_VALUE
    message = "; ".join(verdict.reasons) if verdict.reasons else f"every threshold is met; {verdict.baseline}"
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / name).write_text(message, encoding="utf-8")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, message)
    if not verdict.blessed:
        logging.warning("the model is not blessed: %s", message)
