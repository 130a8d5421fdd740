"""The optimizers that settings can name. None imports TensorFlow at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    from tf_hqgnn.models.optimizers import LazyAdam


class OptimizerChoice(ABC):
    """An optimizer that settings can name, before it is made.

    Attributes:
      name: The name in the settings.
      shares_batches: Whether several replicas can share a batch.
    """

    name: ClassVar[str]
    shares_batches: ClassVar[bool] = True

    @abstractmethod
    def make(self, learning_rate: Any) -> LazyAdam:
        """The optimizer.

        Args:
          learning_rate: Float or Keras schedule.
        """


OPTIMIZERS: Registry[OptimizerChoice] = Registry("optimizer")


@OPTIMIZERS.register("lazy")
class Lazy(OptimizerChoice):
    """Adam that leaves rows outside of the batch as they are."""

    def make(self, learning_rate: Any) -> LazyAdam:
        """Makes the optimizer."""
        from tf_hqgnn.models.optimizers import LazyAdam

        return LazyAdam(learning_rate)


@OPTIMIZERS.register("dense")
class Dense(OptimizerChoice):
    """Adam that goes through whole tables in every step."""

    def make(self, learning_rate: Any) -> LazyAdam:
        """Makes the optimizer."""
        from tf_hqgnn.models.optimizers import DenseAdam

        return DenseAdam(learning_rate)


@OPTIMIZERS.register("catch_up")
class CatchUp(OptimizerChoice):
    """Adam that makes up for the steps that a row wasn't in before it is used again."""

    # Each replica would make up for the rows of its own part, and their copies of the tables would differ.
    shares_batches = False

    def make(self, learning_rate: Any) -> LazyAdam:
        """Makes the optimizer."""
        from tf_hqgnn.models.catch_up_adam import CatchUpAdam

        return CatchUpAdam(learning_rate)
