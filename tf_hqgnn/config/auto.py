"""Settings of `auto`: what a training chooses for itself by validation before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from tf_hqgnn.config.section import Section

# What a race chooses is in these sections.
RACED_SECTIONS = ("model", "loss", "training", "propagation", "ease", "quantization")


class AutoConfig(Section):
    """Whether settings are chosen by a race, and how much time and memory the result may take."""

    race: bool = Field(
        False,
        description="Choose settings of the loss, the start, dimensions and bits before training, by a race on the "
        "validation split. Settings that are given are left as they are.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Seconds for choosing settings and training together; null adds about what a plain training takes.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="The budget as a number of training steps instead of seconds, which gives the same choice on any "
        "machine. A run records how many steps its seconds came to.",
    )
    bytes_per_item: int = Field(
        258,
        ge=4,
        description="The most bytes that an item embedding may take: 258 are 256 values of 8 bits and a scale.",
    )

    keep: tuple[str, ...] = Field(
        (),
        description="Settings, by section.key, that the race leaves as they are; those that are given are added to it.",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> AutoConfig:
        if self.seconds is not None and self.steps is not None:
            raise ValueError("give either auto.seconds or auto.steps, not both")
        return self


def keep_given(values: dict[str, Any], names: Iterable[str]) -> None:
    """Notes in `auto.keep` which settings are given, where they are to be raced: a default that is given is a wish.

    Args:
      values: of a whole configuration, not yet validated.
      names: of the settings that are given, by `section.key`.

    Example:
      >>> values = {"auto": {"race": True}, "model": {"embedding_dim": 64}}
      >>> keep_given(values, ["model.embedding_dim", "data.path"])
      >>> values["auto"]
      {'race': True, 'keep': ['model.embedding_dim']}
    """
    auto = values.get("auto")
    if not isinstance(auto, dict) or auto.get("race") is not True:
        return
    kept = auto.get("keep", [])
    given = [name for name in names if name.partition(".")[0] in RACED_SECTIONS]
    if given and isinstance(kept, list):
        auto["keep"] = sorted({*map(str, kept), *given})
