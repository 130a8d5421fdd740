"""Settings of `quantization`: the low-bit codes of the rows that are served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator


class DistillationConfig(Section):
    """Settings by which codes learn to rank as the full-precision rows do (tf_hqgnn.training.distillation)."""

    max_epochs: int = Field(30, ge=1)
    evaluate_every: int = Field(5, ge=1, description="epochs between validations")
    batch_size: int = Field(256, ge=1, description="users a step, at most")
    num_items: int | None = Field(8192, ge=1, description="items a step, sampled if there are more; null takes all")
    learning_rate: float = Field(0.1, gt=0, description="of items: times their rms, over 2^bits - 1")
    user_learning_rate: float = Field(0.1, gt=0, description="of users, likewise")
    top_share: float = Field(
        0.65, gt=0, lt=1, description="of a user's softmax, that the 20 best items have: sets its temperature"
    )


class QuantizationConfig(Section):
    """Low-bit codes of the rows that are served (tf_hqgnn.quantization); `bits` null serves float32."""

    bits: int | None = Field(None, ge=1, le=8, description="a number of an item's row")
    user_bits: int | None = Field(8, ge=1, le=8, description="a number of a user's row; null keeps users in float32")
    method: Literal["post_training", "distillation", "fine_tuning"] = Field(
        "distillation", description="rounded; trained to rank as before; trained on by the model's own loss"
    )
    mode: Literal["per_row", "per_tensor"] = Field("per_row", description="what shares one range of values")
    symmetric: bool = Field(True, description="ranges are centred on 0")
    estimator: Annotated[str, registered(ESTIMATORS)] = "gste"
    delta: float = Field(0.0, ge=0, description="of ewgs")
    trace: Literal["exact", "hutchinson"] = Field("exact", description="how gste's Hessian trace is found")
    trace_probes: int = Field(50, ge=2, description="of hutchinson, at most")
    trace_tolerance: float = Field(0.05, ge=0, description="of hutchinson: relative standard error to stop at")
    refresh_every: int = Field(1, ge=1, description="epochs between updates of gste's delta")
    range_learning_rate: float = Field(0.1, gt=0, description="of per_tensor ranges, times the learning rate")
    learning_rate: float = Field(1e-3, gt=0, description="of fine_tuning")
    max_epochs: int = Field(20, ge=1, description="of fine_tuning")
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

    def make_estimator(self) -> Estimator:
        """The gradient estimator that these settings name."""
        return ESTIMATORS[self.estimator]()
