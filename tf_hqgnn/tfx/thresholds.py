"""What a model must show before it is served, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tf_hqgnn.types import InputError

METRIC = "ndcg@20"
ANN_RECALL = "ann_recall@20"
# A slice is refused where chance alone would hardly look so: one-sided, about 2 in 100.
_STANDARD_ERRORS = 2.0


class Thresholds(BaseModel):
    """The least that is asked of a candidate; on the test split, over the full catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_lift: float = Field(
        1.0,
        ge=0,
        description="The least NDCG@20 of a model that is pushed, as a multiple of that of recommending popular items.",
    )
    min_ndcg: float = Field(0.0, ge=0, le=1, description="The least NDCG@20 of a model that is pushed.")
    min_ann_recall: float = Field(
        0.9, ge=0, le=1, description="The least share of the exact model's first 20 items that hqgnn_scann must find."
    )
    max_drop: float = Field(
        0.05,
        ge=0,
        le=1,
        description="How much lower NDCG@20 may be than that of the last accepted model, as a share of it.",
    )
    max_slice_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description="How much lower NDCG@20 may be in every group of users and items, beyond two standard errors.",
    )
    min_slice_ann_recall: float = Field(
        0.8,
        ge=0,
        le=1,
        description="The same least share in every group of users and items, beyond two standard errors.",
    )
    min_slice_users: int = Field(30, ge=2, description="Groups of fewer test users are reported and not judged.")

    @staticmethod
    def from_json(text: str) -> Thresholds:
        """Reads an object of thresholds; those left out have their defaults.

        Raises:
          InputError: It isn't one; on Kubeflow an operator types it.
        """
        try:
            return Thresholds.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise InputError(
                f"thresholds {text!r}: {f'{where}: ' if where else ''}{problem['msg'].lower()}; expected JSON with any "
                f"of {', '.join(Thresholds.model_fields)}"
            ) from error


def advice(reason: str) -> str:
    """Say what to do about a model that isn't pushed because it is worse than the last one; nothing otherwise.

    Args:
      reason: why it isn't pushed.

    Example:
      >>> advice("NDCG@20 0.1, .. a drop of more than 5.0% (max_drop)")[:38]
      ' If stock or the log changed, so that '
    """
    found = [option for option in ("max_drop", "max_slice_drop") if f"({option})" in reason]
    if not found:
        return ""
    options = " and ".join(f"--{option.replace('_', '-')} SHARE" for option in found)
    return (
        " If stock or the log changed, so that any model must predict worse, accept the drop once: give the same "
        f"command with {options}. Otherwise compare the settings and the log with those of the version that stays."
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

    Where that model was ranked on today's test split, too (`comparison`, see tfx.baseline), the NDCG@20 of the two are
    compared, over all users and in every slice. A slice counts as worse where the mean of its users' differences,
    the tolerance taken off, is more than two of its standard errors below zero; one of fewer than `min_slice_users`
    users can't tell. Where the model could not be ranked again its figures of then are all there is: on the same test
    data the NDCG@20 are compared; where the data is another, a harder day would look like a worse model, so the lifts
    over popularity are.

    Args:
      evaluation: `num_users`, `metrics`, `popularity` (with `ndcg@20`), `ann_recall@20`, `data_fingerprint`; and
        perhaps `slices` with `ann_recall` and `comparison`, which has `note` and, where there is something to compare,
        `slices`, that of all users first.
      thresholds: what is asked.
      last_blessed: the evaluation that the last blessed model had, or None.
    """
    if not evaluation["num_users"]:
        return Verdict(False, ("no user has a test item, so nothing tells how good the model is",), "not compared")
    reasons = [*_short_of(evaluation, thresholds)]
    baseline = "no model was blessed before"
    if last_blessed is not None:
        baseline, worse = _compare(evaluation, thresholds, last_blessed)
        reasons += worse
    return Verdict(not reasons, tuple(reasons), baseline)


def _short_of(evaluation: Mapping[str, Any], thresholds: Thresholds) -> Iterator[str]:
    """Where the candidate alone isn't what is asked."""
    metrics, popularity = evaluation["metrics"], evaluation["popularity"]
    ndcg, over_popularity, ann_recall = metrics[METRIC], lift(metrics, popularity), evaluation[ANN_RECALL]
    for name, value in {**metrics, ANN_RECALL: ann_recall}.items():
        if not math.isfinite(value):
            yield f"{name} is {value}, not a finite number"
    if over_popularity < thresholds.min_lift:
        yield (
            f"NDCG@20 {ndcg:.4f} is {over_popularity:.2f} times that of the popularity baseline "
            f"({popularity[METRIC]:.4f}); at least {thresholds.min_lift:g} times is asked (min_lift)"
        )
    if ndcg < thresholds.min_ndcg:
        yield f"NDCG@20 {ndcg:.4f} is below {thresholds.min_ndcg:g} (min_ndcg)"
    if ann_recall < thresholds.min_ann_recall:
        yield (
            f"the ScaNN model finds {ann_recall:.1%} of the exact model's 20 first items; "
            f"at least {thresholds.min_ann_recall:.1%} is asked (min_ann_recall)"
        )
    for part in evaluation.get("slices", ()):
        found, error = part["ann_recall"], part["ann_recall_error"]
        enough = part["ann_users"] >= thresholds.min_slice_users
        if enough and found + _STANDARD_ERRORS * error < thresholds.min_slice_ann_recall:
            yield (
                f"{part['name']}: the ScaNN model finds {found:.1%} of the exact model's 20 first items; "
                f"at least {thresholds.min_slice_ann_recall:.1%} is asked (min_slice_ann_recall)"
            )


def _compare(
    evaluation: Mapping[str, Any], thresholds: Thresholds, last_blessed: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """The comparison in words, and where the candidate is worse."""
    comparison = evaluation.get("comparison", {"note": "", "slices": []})
    parts = comparison["slices"]
    if parts:
        name, now, then = "NDCG@20", parts[0]["ndcg"], parts[0]["baseline_ndcg"]
        where = comparison["note"]
        baseline = f"{name} {now:.4f}, the last blessed model has {then:.4f}, {where}"
    else:
        same = last_blessed.get("data_fingerprint") == evaluation["data_fingerprint"]
        if same:
            name, now, then = "NDCG@20", evaluation["metrics"][METRIC], last_blessed["metrics"][METRIC]
        else:
            name, now = "lift over popularity", lift(evaluation["metrics"], evaluation["popularity"])
            then = lift(last_blessed["metrics"], last_blessed["popularity"])
        where = f" ({comparison['note']})" if comparison["note"] else ""
        data = "the same" if same else "other"
        baseline = f"{name} {now:.4f}, the last blessed model had {then:.4f} on {data} data{where}"
    worse = []
    # The tolerance itself is allowed, whatever the rounding.
    if now < then * (1 - thresholds.max_drop) - 1e-12:
        worse.append(f"{baseline}: a drop of more than {thresholds.max_drop:.1%} (max_drop)")
    worse += [
        f"{part['name']}, {part['num_users']:,} users: NDCG@20 {part['ndcg']:.4f}, the last blessed model has "
        f"{part['baseline_ndcg']:.4f}: a drop of more than {thresholds.max_slice_drop:.1%} (max_slice_drop)"
        for part in parts[1:]
        if part["num_users"] >= thresholds.min_slice_users
        and part["excess"] + _STANDARD_ERRORS * part["excess_error"] < -1e-12
    ]
    return baseline, worse
