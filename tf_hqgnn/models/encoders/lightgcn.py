"""LightGCN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice

if TYPE_CHECKING:
    from tf_hqgnn.config import ModelConfig
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.models.encoder import Encoder


@ENCODERS.register("lightgcn")
class LightGCN(EncoderChoice):
    """`layers.graph_convolution.LightGCNConvolution`; reads `num_layers` and `layer_weights`.

    Reference: LightGCN (arXiv 2002.02126).

    Example:
      >>> from tf_hqgnn.config import ModelConfig
      >>> LightGCN().describe(ModelConfig(encoder="lightgcn", num_layers=2))
      'lightgcn, 2 layers'
    """

    def make(self, config: ModelConfig, graph: InteractionGraph, seed: int) -> Encoder:
        """See `EncoderChoice`."""
        from tf_hqgnn.layers.graph_convolution import LightGCNConvolution
        from tf_hqgnn.models.encoder import GraphEncoder

        return GraphEncoder(LightGCNConvolution(config.num_layers, config.layer_weights), graph)
