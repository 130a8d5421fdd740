"""Settings of `tune`: what a search of settings tries."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from tf_hqgnn.config.section import Section


class RangeConfig(Section):
    """The values that `tf-hqgnn tune` tries for one setting: from `low` to `high`, or those of `choices`."""

    low: int | float | None = Field(None, description="The lowest value to try.")
    high: int | float | None = Field(None, description="The highest value to try.")
    log: bool = Field(False, description="Draw values evenly by order of magnitude, as for learning rates.")
    choices: tuple[bool | int | float | str | None, ...] = Field(
        (), description="The values to try, in place of a range."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> RangeConfig:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either low and high (and log) or choices, not both")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        # Not `low >= high`, which is false of NaN.
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 where log is true, got {self.low}")
        return self


class TuneConfig(Section):
    """What `tf-hqgnn tune` searches. Other commands ignore these settings."""

    ranges: dict[str, RangeConfig] = Field(
        {},
        description="The ranges to search, by section.key; empty searches the loss, the learning rate and the batch "
        "size.",
    )
