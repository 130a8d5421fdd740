"""No graph convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice

if TYPE_CHECKING:
    from tf_hqgnn.config import ModelConfig
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.models.encoder import Encoder


@ENCODERS.register("none")
class NoEncoder(EncoderChoice):
    """The rows are the tables' own (`models.encoder.LookupEncoder`).

    Reference: LightGODE (arXiv 2407.18910).

    Example:
      >>> NoEncoder().convolves
      False
    """

    convolves: ClassVar[bool] = False

    def make(self, config: ModelConfig, graph: InteractionGraph, seed: int) -> Encoder:
        """See `EncoderChoice`."""
        from tf_hqgnn.models.encoder import LookupEncoder

        return LookupEncoder()

    def describe(self, config: ModelConfig) -> str:
        """See `EncoderChoice`."""
        return self.name
