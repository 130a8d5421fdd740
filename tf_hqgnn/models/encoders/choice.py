"""The encoders that settings can name: what each needs to be told, and what it is. None imports TensorFlow at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    from tf_hqgnn.config import ModelConfig
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.models.encoder import Encoder


class EncoderChoice(ABC):
    """An encoder that settings can name, before it is made.

    Attributes:
      name: as in the settings.
      convolves: whether the encoded rows are other than the tables'.
      mixes_dimensions: whether a dimension of an encoded row follows from other dimensions of the tables.
    """

    name: ClassVar[str]
    convolves: ClassVar[bool] = True
    mixes_dimensions: ClassVar[bool] = False

    @abstractmethod
    def make(self, config: ModelConfig, graph: InteractionGraph, seed: int) -> Encoder:
        """The encoder.

        Args:
          config: the model's section of the settings.
          graph: of the training interactions.
          seed: of the encoder's weights and of its dropout.
        """

    def describe(self, config: ModelConfig) -> str:
        """The encoder with the settings that it reads, for a report."""
        return f"{self.name}, {config.num_layers} layers"


ENCODERS: Registry[EncoderChoice] = Registry("encoder", "tf_hqgnn.models.encoders")
