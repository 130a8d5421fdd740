"""Settings of `training` and `propagation`: from the first tables to the rows that are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.models.optimizer_choice import OPTIMIZERS
from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver

if TYPE_CHECKING:
    from tf_hqgnn.models.optimizers import LazyAdam


class TrainingConfig(Section):
    """How the embeddings are trained."""

    batch_size: int = Field(512, ge=2, description="Interactions in a training step.")
    learning_rate: float = Field(0.01, gt=0, description="The learning rate of Adam at the start.")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Whether the learning rate falls to 0 at max_epochs along a cosine, or stays."
    )
    optimizer: Annotated[str, registered(OPTIMIZERS)] = Field(
        "lazy",
        description="Which Adam trains: lazy leaves the rows of users and items outside of a batch as they are; dense "
        "moves all rows in every step, as published; catch_up does what dense does, in the time that lazy takes, on "
        "one device.",
    )
    max_epochs: int = Field(
        20, ge=0, description="The most epochs. 0 trains nothing: what training would start from is served."
    )
    evaluate_every: int = Field(5, ge=1, description="Epochs from one validation to the next.")
    patience: int = Field(6, ge=1, description="Stop after this many validations without improvement.")
    checkpoint_seconds: float = Field(30.0, ge=0, description="The least seconds from one checkpoint to the next.")
    steps_per_execution: int = Field(32, ge=1, description="Training steps in one call of TensorFlow.")
    jit_compile: bool = Field(True, description="Compile training steps by XLA.")
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="Who shares each batch: nobody (none), all GPUs of this machine (mirrored), or all workers of the "
        "cluster in TF_CONFIG (multi_worker).",
    )
    warm_start: str | None = Field(
        "auto",
        description="The run directory whose embeddings training starts from (a warm start). auto takes those of the "
        "last model that a pipeline accepted, and none outside of a pipeline; null takes none.",
    )
    warm_epochs: int = Field(10, ge=1, description="The most epochs of a warm start, in place of max_epochs.")
    warm_learning_rate: float = Field(
        0.01, gt=0, description="The learning rate of a warm start, in place of learning_rate."
    )
    refit: bool | Literal["all"] = Field(
        False,
        description="Train once more when epochs and propagation are chosen: true on training and validation "
        "interactions, all on the whole log. The second model is served; all metrics are those of the first. A "
        "pipeline and Recommender take all unless they are told otherwise.",
    )
    min_refit_agreement: float = Field(
        0.2,
        ge=0,
        le=1,
        description="With refit: all, serve the second model only if it shares at least this part of each user's "
        "first items, on average, with the first.",
    )

    def make_optimizer(self, learning_rate: Any) -> LazyAdam:
        """The optimizer that these settings name, with a learning rate (a float or a Keras schedule)."""
        return OPTIMIZERS[self.optimizer]().make(learning_rate)


class PropagationConfig(Section):
    """How trained embeddings are spread over the graph: by the ODE dh/dt = A h + e, from time 0 to t1."""

    solver: Annotated[str, registered(SOLVERS)] = Field(
        "euler",
        description="The solver of the ODE that propagates trained embeddings over the graph; none leaves them.",
    )
    t1: float = Field(
        0.25, ge=0, description="The time to which the ODE is solved: the longer, the more neighbours count."
    )
    num_steps: int = Field(1, ge=1, description="The number of steps of euler, heun and rk4.")
    tolerance: float = Field(1e-6, gt=0, description="The relative error at which exact and adaptive stop.")
    normalize: bool = Field(True, description="Scale embeddings to unit length before they are propagated.")
    search: bool = Field(
        True,
        description="Try other solvers and times on the validation split after training, unless solver is none.",
    )

    def make_solver(self) -> Solver:
        """The solver that these settings name."""
        return SOLVERS[self.solver]()
