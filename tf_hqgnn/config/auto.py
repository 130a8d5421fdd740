"""Settings of `auto`: what a training chooses for itself by validation before it begins."""

from __future__ import annotations

from pydantic import Field, model_validator

from tf_hqgnn.config.section import Section


class AutoConfig(Section):
    """Whether settings are chosen by a race, and what the race and the training after it may take."""

    race: bool = Field(
        False,
        description="Before it trains, a training races settings of loss, start, dimensions and bits on the validation "
        "split. Settings that differ from the defaults aren't touched.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Time for choosing and training together; null takes twice what a plain training of the log does.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="The same as a number of training steps, which gives the same choice on any machine. A run records "
        "what its seconds came to.",
    )
    bytes_per_item: int = Field(
        258, ge=4, description="Most bytes of an item's code: 258 are 256 columns of 8 bits and a scale."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> AutoConfig:
        if self.seconds is not None and self.steps is not None:
            raise ValueError("give either auto.seconds or auto.steps, not both")
        return self
