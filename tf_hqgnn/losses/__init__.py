"""Losses of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.losses.alignment_uniformity import AlignmentUniformity
    from tf_hqgnn.losses.bpr import BPR
    from tf_hqgnn.losses.loss import BatchContext, Loss, make_loss
    from tf_hqgnn.losses.softmax import Softmax

__all__ = [
    "BPR",
    "AlignmentUniformity",
    "BatchContext",
    "Loss",
    "Softmax",
    "make_loss",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AlignmentUniformity": "alignment_uniformity",
        "BPR": "bpr",
        "BatchContext": "loss",
        "Loss": "loss",
        "Softmax": "softmax",
        "make_loss": "loss",
    },
)
