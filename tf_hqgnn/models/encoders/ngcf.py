"""NGCF."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice

if TYPE_CHECKING:
    from tf_hqgnn.config import ModelConfig
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.models.encoder import Encoder


@ENCODERS.register("ngcf")
class NGCF(EncoderChoice):
    """`layers.graph_convolution.NGCFConvolution`; reads `num_layers` and `message_dropout`.

    Reference: NGCF (arXiv 1905.08108).

    Example:
      >>> NGCF().mixes_dimensions
      True
    """

    mixes_dimensions: ClassVar[bool] = True

    def make(self, config: ModelConfig, graph: InteractionGraph, seed: int) -> Encoder:
        """See `EncoderChoice`."""
        from tf_hqgnn.layers.graph_convolution import NGCFConvolution
        from tf_hqgnn.models.encoder import GraphEncoder

        return GraphEncoder(NGCFConvolution(config.num_layers, config.message_dropout, seed=seed), graph)
