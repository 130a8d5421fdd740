"""What a model must show before it is served, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

METRIC = "ndcg@20"
ANN_RECALL = "ann_recall@20"


class Thresholds(BaseModel):
    """The least that is asked of a candidate; on the test split, over the full catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_lift: float = Field(1.0, ge=0, description="NDCG@20 over that of the popularity baseline")
    min_ndcg: float = Field(0.0, ge=0, le=1, description="NDCG@20 itself")
    min_ann_recall: float = Field(
        0.9, ge=0, le=1, description="share of the exact model's first 20 items that the ScaNN model finds"
    )
    max_drop: float = Field(
        0.05, ge=0, le=1, description="how much worse than the last blessed model, as a share of its figure"
    )


@dataclass(frozen=True)
class Verdict:
    """`blessed`, the `reasons` why not (none when it is), and `baseline`, the comparison with the last model."""

    blessed: bool
    reasons: tuple[str, ...]
    baseline: str


def lift(metrics: Mapping[str, float], popularity: Mapping[str, float]) -> float:
    """NDCG@20 over popularity's; infinite where popularity finds nothing and the model something.

    Example:
      >>> lift({"ndcg@20": 0.3}, {"ndcg@20": 0.2})
      1.5
    """
    model, baseline = metrics[METRIC], popularity[METRIC]
    if baseline > 0:
        return round(model / baseline, 12)
    return math.inf if model > 0 else 0.0


def judge(evaluation: Mapping[str, Any], thresholds: Thresholds, last_blessed: Mapping[str, Any] | None) -> Verdict:
    """Compares an evaluation with the thresholds and with the model that was blessed last.

    On the same test data the NDCG@20 of the two models is compared. Where the data is another, a harder day would look
    like a worse model, so their lifts over popularity are.

    Args:
      evaluation: `num_users`, `metrics`, `popularity` (with `ndcg@20`), `ann_recall@20`, `data_fingerprint`.
      thresholds: what is asked.
      last_blessed: the evaluation that the last blessed model had, or None.
    """
    if not evaluation["num_users"]:
        return Verdict(False, ("no user has a test item, so nothing tells how good the model is",), "not compared")
    metrics, popularity = evaluation["metrics"], evaluation["popularity"]
    ndcg, over_popularity, ann_recall = metrics[METRIC], lift(metrics, popularity), evaluation[ANN_RECALL]
    reasons = [
        f"{name} is {value}, not a finite number"
        for name, value in {**metrics, ANN_RECALL: ann_recall}.items()
        if not math.isfinite(value)
    ]
    if over_popularity < thresholds.min_lift:
        reasons.append(
            f"NDCG@20 {ndcg:.4f} is {over_popularity:.2f} times that of the popularity baseline "
            f"({popularity[METRIC]:.4f}); at least {thresholds.min_lift:g} times is asked (min_lift)"
        )
    if ndcg < thresholds.min_ndcg:
        reasons.append(f"NDCG@20 {ndcg:.4f} is below {thresholds.min_ndcg:g} (min_ndcg)")
    if ann_recall < thresholds.min_ann_recall:
        reasons.append(
            f"the ScaNN model finds {ann_recall:.1%} of the exact model's 20 first items; "
            f"at least {thresholds.min_ann_recall:.1%} is asked (min_ann_recall)"
        )
    baseline = "no model was blessed before"
    if last_blessed is not None:
        same = last_blessed.get("data_fingerprint") == evaluation["data_fingerprint"]
        if same:
            name, now, then = "NDCG@20", ndcg, last_blessed["metrics"][METRIC]
        else:
            name, now = "lift over popularity", over_popularity
            then = lift(last_blessed["metrics"], last_blessed["popularity"])
        baseline = f"{name} {now:.4f}, the last blessed model had {then:.4f} on {'the same' if same else 'other'} data"
        # The tolerance itself is allowed, whatever the rounding.
        if now < then * (1 - thresholds.max_drop) - 1e-12:
            reasons.append(f"{baseline}: a drop of more than {thresholds.max_drop:.1%} (max_drop)")
    return Verdict(not reasons, tuple(reasons), baseline)
