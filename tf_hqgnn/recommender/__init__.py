"""A recommender in memory: `fit` on a log, then `recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.recommender.estimator import Recommender

__all__ = ["Recommender"]

__getattr__, __dir__ = lazy_names(__name__, {"Recommender": "estimator"})
