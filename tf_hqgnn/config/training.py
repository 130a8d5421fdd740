"""Settings of `training` and `propagation`: from the first tables to the rows that are served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver


class TrainingConfig(Section):
    """The optimisation loop."""

    batch_size: int = Field(512, ge=2)
    learning_rate: float = Field(0.01, gt=0)
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="of the learning rate: falls to 0 at max_epochs, or stays"
    )
    max_epochs: int = Field(20, ge=0, description="0: what training would start from is propagated and served")
    evaluate_every: int = Field(5, ge=1, description="epochs between validations")
    patience: int = Field(6, ge=1, description="validations without improvement before training stops")
    checkpoint_seconds: float = Field(30.0, ge=0, description="at least this long between checkpoints")
    steps_per_execution: int = Field(32, ge=1)
    jit_compile: bool = True
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="mirrored: all GPUs of a machine share each batch; multi_worker: all workers of TF_CONFIG's "
        "cluster (tf_hqgnn.training.distribution)",
    )
    warm_start: str | None = Field(
        "auto",
        description="a run directory whose rows training starts from; auto: in a pipeline those of the model that was "
        "blessed last, else none; null: none",
    )
    warm_epochs: int = Field(10, ge=1, description="in place of max_epochs where a training starts from another's rows")
    warm_learning_rate: float = Field(0.01, gt=0, description="likewise in place of learning_rate")
    refit: bool | Literal["all"] = Field(
        False,
        description="once epochs and propagation are chosen, train anew: true on training and validation interactions; "
        "all on the whole log, for what is served, while all metrics stay those of the first training. A pipeline and "
        "Recommender do all unless they are told otherwise.",
    )
    min_refit_agreement: float = Field(
        0.2,
        ge=0,
        le=1,
        description="With refit: all, the least share of a user's first items that the refitted model has in common "
        "with the model that was judged; below it the refitted model isn't served.",
    )


class PropagationConfig(Section):
    """The post-training ODE dh/dt = A h + e from 0 to t1."""

    solver: Annotated[str, registered(SOLVERS)] = "euler"
    t1: float = Field(0.25, ge=0)
    num_steps: int = Field(1, ge=1, description="of euler, heun and rk4")
    tolerance: float = Field(1e-6, gt=0, description="of exact and adaptive")
    normalize: bool = Field(True, description="rows are scaled to unit length before they are propagated")
    search: bool = Field(
        True,
        description="after training, other solvers and times are tried on the validation split; not if solver: none",
    )

    def make_solver(self) -> Solver:
        """The solver that these settings name."""
        return SOLVERS[self.solver]()
