"""The interaction graph, and the sparse product by which everything walks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.graph.propagation import NormalizedAdjacency

__all__ = [
    "InteractionGraph",
    "NormalizedAdjacency",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "InteractionGraph": "interaction_graph",
        "NormalizedAdjacency": "propagation",
    },
)
