"""What a user is told whose model ends below the popularity baseline."""

from __future__ import annotations

from collections.abc import Mapping


def below_popularity(
    model: Mapping[str, float], popularity: Mapping[str, float], metric: str, split: str
) -> str | None:
    """One line that says that a model is worse than recommending what is popular, and what to try.

    Args:
      model: the model's metrics by name; empty where nothing was held out.
      popularity: those of the popularity baseline.
      metric: the one that is compared, such as `ndcg@20`.
      split: which both were measured on, for the line.

    Returns:
      The line; None where the model is at least as good, or nothing was measured.

    Example:
      >>> below_popularity({"ndcg@20": 0.0544}, {"ndcg@20": 0.0976}, "ndcg@20", "validation")[:84]
      'the model is worse than popularity: ndcg@20 0.0544 on the validation split, below 0.'
      >>> below_popularity({"ndcg@20": 0.1}, {"ndcg@20": 0.1}, "ndcg@20", "validation") is None
      True
    """
    if metric not in model or metric not in popularity or model[metric] >= popularity[metric]:
        return None
    return (
        f"the model is worse than popularity: {metric} {model[metric]:.4f} on the {split} split, below "
        f"{popularity[metric]:.4f} of recommending the most popular items; try the preset auto or spectral, "
        "users and items with more interactions (data.k_core=5), or search settings with tf-hqgnn tune"
    )
