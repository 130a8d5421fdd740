"""Keras layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.layers.graph_convolution import GraphConvolution, LightGCNConvolution, NGCFConvolution
    from tf_hqgnn.layers.graph_ode import GraphODE
    from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer

__all__ = [
    "GraphConvolution",
    "GraphODE",
    "LightGCNConvolution",
    "LowBitQuantizer",
    "NGCFConvolution",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "GraphConvolution": "graph_convolution",
        "GraphODE": "graph_ode",
        "LightGCNConvolution": "graph_convolution",
        "LowBitQuantizer": "low_bit_quantizer",
        "NGCFConvolution": "graph_convolution",
    },
)
