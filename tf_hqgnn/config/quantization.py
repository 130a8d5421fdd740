"""Settings of `quantization`: the low-bit codes of the rows that are served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tf_hqgnn.config.section import METRIC_PATTERN, Section, registered
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator

# Codes of more bits are within 0.3 percent of full precision without it.
_FITTED_BITS = (1, 2)


class DistillationConfig(Section):
    """How codes learn to rank as the full-precision embeddings do; for `quantization.method: distillation`."""

    fit_rounds: int = Field(
        6,
        ge=0,
        description="The number of rounds of discrete least squares on the full-precision scores that symmetric codes "
        "of 1 or 2 bits with a range per row start from (0: none).",
    )
    max_epochs: int | None = Field(
        None,
        ge=1,
        description="The number of epochs of distillation (null: 30; 8 after fit_rounds, where hardly a bit flips any "
        "more and users are all that learns).",
    )
    evaluate_every: int = Field(5, ge=1, description="The number of epochs from one validation to the next.")
    batch_size: int = Field(256, ge=1, description="The number of users in a step.")
    num_items: int | None = Field(
        8192, ge=1, description="The number of items in a step, drawn at random if there are more; null takes all."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="The learning rate of items, as a multiple of (root mean square of their table) / (2^bits - 1) "
        "(null: 0.1; 0.02 after fit_rounds).",
    )
    user_learning_rate: float | None = Field(
        None, gt=0, description="The learning rate of users, as the same multiple of their table's (null: as items')."
    )
    top_share: float = Field(
        0.65,
        gt=0,
        lt=1,
        description="Sets the temperature of the softmax: so that a user's 20 best items have this share of it.",
    )
    target: Literal["scores", "order"] = Field(
        "scores",
        description="What codes learn from the full-precision model: its scores, or only the order of its "
        "first top_items.",
    )
    fit_scales: bool = Field(
        False,
        description="Try the trained codes with scales of items fitted to the teacher's scores by least squares, and "
        "keep those scales if they validate better.",
    )
    top_items: int = Field(
        50,
        ge=1,
        description="With target: order, how many of the full-precision model's first items have to keep their order.",
    )


class QuantizationConfig(Section):
    """Low-bit codes of the embeddings that are served. With `bits: null`, items are served in float32."""

    bits: int | None = Field(None, ge=1, le=8, description="Bits per value of an item embedding (null: float32).")
    user_bits: int | None = Field(8, ge=1, le=8, description="Bits per value of a user embedding (null: float32).")
    method: Literal["post_training", "distillation", "fine_tuning"] = Field(
        "distillation",
        description="How codes are made: post_training rounds the rows, distillation trains codes to rank as the "
        "full-precision rows do, fine_tuning trains the model on with quantizers in its loss, as HQ-GNN does.",
    )
    start: Literal["trained", "scratch"] = Field(
        "trained",
        description="Where fine_tuning starts: from the model trained in full precision, or from tables that are "
        "initialised anew, as in the paper.",
    )
    mode: Literal["per_row", "per_tensor"] = Field(
        "per_row", description="Whether each row has a range of values of its own, or all rows of a table learn one."
    )
    symmetric: bool = Field(True, description="Centre every range on 0.")
    output_scale: bool = Field(
        False,
        description="With per_tensor: learn the scale of the decoded rows separately from the range that values are "
        "rounded in.",
    )
    estimator: Annotated[str, registered(ESTIMATORS)] = Field(
        "gste", description="The gradient that replaces that of rounding while codes are trained."
    )
    delta: float = Field(
        0.0,
        ge=0,
        description="The factor by which ewgs weighs the rounding error: above 0 with ewgs, 0 with the others.",
    )
    delta_per: Literal["table", "column", "row"] = Field(
        "table", description="What shares one delta of gste: all values of a table, a column, or a row."
    )
    delta_batches: int = Field(
        1, ge=1, description="The number of batches whose deltas are averaged each time that gste computes them."
    )
    trace: Literal["exact", "hutchinson"] = Field(
        "exact", description="How the trace of gste's Hessian is found: by its formula, or by random probes."
    )
    trace_probes: int = Field(50, ge=2, description="The most probes that hutchinson makes.")
    trace_tolerance: float = Field(
        0.05, ge=0, description="The relative standard error of the trace at which hutchinson stops."
    )
    first_refresh: int = Field(
        0, ge=0, description="The number of epochs that are trained as with ste before gste first computes its delta."
    )
    refresh_every: int = Field(1, ge=1, description="The number of epochs from one delta of gste to the next.")
    range_learning_rate: float = Field(
        0.1,
        gt=0,
        description="The learning rate of per_tensor ranges and of output_scale, as a multiple of the other learning "
        "rate (1: the same).",
    )
    absolute_range_rate: bool = Field(
        False, description="Take range_learning_rate as it is, not as a multiple of the other learning rate."
    )
    learning_rate: float = Field(1e-3, gt=0, description="The learning rate of fine_tuning.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="The learning rate of fine_tuning stays, or falls to 0 along a cosine."
    )
    max_epochs: int = Field(20, ge=1, description="The number of epochs of fine_tuning.")
    monitor: str | None = Field(
        None,
        pattern=METRIC_PATTERN,
        description="The validation metric that chooses the epoch of the codes, such as recall@50; null takes "
        "evaluation.monitor.",
    )
    distillation: DistillationConfig = DistillationConfig()

    @model_validator(mode="after")
    def _delta_is_taken(self) -> QuantizationConfig:
        if self.make_estimator().takes_delta != (self.delta > 0):
            names = ", ".join(name for name in ESTIMATORS.names() if ESTIMATORS[name].takes_delta)
            raise ValueError(
                f"delta must be above 0 with the estimator {names}, and 0 otherwise; got {self.delta} with "
                f"{self.estimator}"
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> QuantizationConfig:
        if self.output_scale and self.mode != "per_tensor":
            raise ValueError(
                "output_scale needs mode: per_tensor, since per_row takes the scale of each row from the row"
            )
        if self.start == "scratch" and self.method != "fine_tuning":
            raise ValueError(f"start: scratch needs method: fine_tuning, got {self.method}")
        if self.delta_per != "table" and self.method == "fine_tuning" and self.trace == "exact":
            raise ValueError(
                f"delta_per: {self.delta_per} needs the diagonal of the Hessian, which fine_tuning has by probes only: "
                "set trace: hutchinson"
            )
        return self

    def range_factor(self, learning_rate: float) -> float:
        """Return the factor of `learning_rate` for learned ranges.

        Example:
          >>> QuantizationConfig(range_learning_rate=0.5).range_factor(0.001)
          0.5
          >>> QuantizationConfig(range_learning_rate=1, absolute_range_rate=True).range_factor(0.5)
          2.0
        """
        return self.range_learning_rate / learning_rate if self.absolute_range_rate else self.range_learning_rate

    def finds_delta(self, epoch: int) -> bool:
        """Whether delta is found before an epoch, counted from 0, because it follows the Hessian and is due.

        Example:
          >>> [QuantizationConfig(first_refresh=2, refresh_every=3).finds_delta(epoch) for epoch in range(6)]
          [False, False, True, False, False, True]
        """
        since = epoch - self.first_refresh
        return self.make_estimator().follows_hessian and since >= 0 and since % self.refresh_every == 0

    @property
    def fits_codes(self) -> bool:
        """Whether distillation starts from codes by least squares (`distillation.fit_rounds`).

        Example:
          >>> QuantizationConfig(bits=1).fits_codes, QuantizationConfig(bits=8).fits_codes
          (True, False)
        """
        has_own_scales = self.symmetric and self.mode == "per_row"
        return self.bits in _FITTED_BITS and has_own_scales and self.distillation.fit_rounds > 0

    @property
    def distillation_schedule(self) -> tuple[int, float, float]:
        """The number of epochs of distillation, and the learning rates of items and of users.

        Example:
          >>> QuantizationConfig(bits=1).distillation_schedule, QuantizationConfig(bits=8).distillation_schedule
          ((8, 0.02, 0.02), (30, 0.1, 0.1))
        """
        given, (epochs, rate) = self.distillation, (8, 0.02) if self.fits_codes else (30, 0.1)
        items = given.learning_rate or rate
        return given.max_epochs or epochs, items, given.user_learning_rate or items

    def make_estimator(self) -> Estimator:
        """The gradient estimator that these settings name."""
        return ESTIMATORS[self.estimator]()
