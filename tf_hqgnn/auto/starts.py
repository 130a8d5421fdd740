"""What ranks without any training: popularity, and filters of the graph's singular vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from tf_hqgnn.config import ModelConfig
from tf_hqgnn.models.initialization import SpectralFactors
from tf_hqgnn.training.judge import Judge

Settings = dict[str, Any]
# Columns that are tried: the singular vectors beyond them are noise in a small log.
_DIMS = (16, 32, 64, 128, 256, 512)
_FILTERS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("spectral_power", (0.75, 2.5)),
    ("spectral_popularity", (0.0, 0.4)),
)
# Other exponents want singular vectors of their own.
_EXPONENTS = ((0.5, 0.5),)


class Starts:
    """Columns first, then one setting of the filter after the other, each with the best of those before it.

    Args:
      factors: of the graph, with the exponents of `model`.
      judge: of rows.
      model: the settings that aren't tried; its `embedding_dim` is the most.
      seed: of further singular vectors.
    """

    def __init__(self, factors: SpectralFactors, judge: Judge, model: ModelConfig, seed: int) -> None:
        self._factors, self._judge, self._model, self._seed = factors, judge, model, seed
        self._best: tuple[float, Settings] = (-1.0, {})
        self._asked: Settings = {}

    def settings(self, thorough: bool, wished: Collection[str] = ()) -> Iterator[Settings]:
        """Yields what to try; the value of each is told before the next one is asked for.

        Args:
          thorough: whether to try other exponents, too, at the price of a factorisation each.
          wished: settings, by `section.key`, that stay as they are.
        """
        most = self._model.embedding_dim
        for dim in [*(dim for dim in _DIMS if dim < most and "model.embedding_dim" not in wished), most]:
            yield self._ask({"embedding_dim": dim})
        for name, values in _FILTERS:
            start = self._best[1]
            for one in values if f"model.{name}" not in wished else ():
                yield self._ask(start | {name: one})
        if thorough and not {"model.spectral_user_exponent", "model.spectral_item_exponent"} & {*wished}:
            start = self._best[1]
            for user, item in _EXPONENTS:
                yield self._ask(start | {"spectral_user_exponent": user, "spectral_item_exponent": item})

    def _ask(self, settings: Settings) -> Settings:
        self._asked = settings
        return settings

    def tell(self, value: float) -> None:
        """Stores the value of what was asked for last."""
        if value > self._best[0]:
            self._best = value, self._asked

    def value(self) -> float:
        """The monitor's value of the rows that what was asked for last gives, without training."""
        settings = self._asked
        model = self._model.model_copy(update=settings)
        factors = self._factors
        if "spectral_user_exponent" in settings:
            factors = SpectralFactors.of(factors.graph, model, self._seed)
        return self._judge.value(*factors.filtered(model))
