"""The settings of a run: frozen, strict, and the same object in YAML, Python and a TFX pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from tf_hqgnn.config_text import explain, parse_settings, set_value
from tf_hqgnn.losses.loss import LOSSES, Loss, make_loss
from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice
from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator
from tf_hqgnn.types import InputError, Registry


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _registered(registry: Registry[Any]) -> AfterValidator:
    """Refuses names that the registry doesn't know."""

    def check(name: str) -> str:
        if name not in registry.names():
            raise ValueError(f"expected one of {', '.join(registry.names())}")
        return name

    return AfterValidator(check)


class SplitConfig(_Section):
    """How interactions are divided: a share of each user's (`random`), the last ones, or by time over all users."""

    method: Literal["random", "leave_last_out", "temporal"] = "random"
    valid: float = Field(0.1, ge=0, lt=1, description="share of interactions; ignored by leave_last_out")
    test: float = Field(0.1, ge=0, lt=1, description="share of interactions; ignored by leave_last_out")


class DataConfig(_Section):
    """Where the interactions are and how they become train, valid and test."""

    path: str | None = Field(None, description="{SPAN} in it stands for the number of a day: logs/day-{SPAN}.csv")
    num_spans: int | None = Field(None, ge=1, description="only the latest so many; null reads every span")
    train_path: str | None = None
    valid_path: str | None = Field(None, description="optional; without it, split.valid of train_path is held out")
    test_path: str | None = None
    items_path: str | None = None
    format: Literal["auto", "csv", "parquet", "inter", "adjacency", "tfrecord"] = "auto"
    k_core: int = Field(0, ge=0, description="every kept user and item has at least this many interactions")
    min_rating: float | None = None
    split: SplitConfig = SplitConfig()
    max_bad_rows: int = Field(0, ge=0)
    max_growth: float | None = Field(
        10.0, gt=1, description="so many times more rows than usual, or fewer, stop the run; null lets any number pass"
    )
    max_id_drift: float | None = Field(
        0.5, ge=0, le=1, description="share of ids of another kind than before that stops the run; null lets any pass"
    )
    quarantine_path: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.path and (self.train_path or self.test_path):
            raise ValueError("give either data.path or data.train_path with data.test_path, not both")
        if bool(self.train_path) != bool(self.test_path):
            raise ValueError("data.train_path and data.test_path go together: one of them is missing")
        if self.valid_path and not self.train_path:
            raise ValueError("data.valid_path goes with data.train_path and data.test_path, which are missing")
        return self


class ModelConfig(_Section):
    """The trained tables and the encoder over them."""

    encoder: Annotated[str, _registered(ENCODERS)] = "none"
    embedding_dim: int = Field(64, ge=1, description="columns of the tables; ngcf's rows are num_layers + 1 as long")
    num_layers: int = Field(3, ge=1, description="of lightgcn and ngcf")
    layer_weights: Literal["uniform", "learned"] = Field("uniform", description="of lightgcn")
    message_dropout: float = Field(0.1, ge=0, lt=1, description="of ngcf: share of a layer's output that is dropped")
    initializer: Literal["spectral", "random"] = Field(
        "spectral", description="tables start at the graph's first singular vectors, or at random (Glorot)"
    )
    spectral_user_exponent: float = Field(0.3, ge=0, le=1, description="an interaction weighs its user's degree^-this")
    spectral_item_exponent: float = Field(0.4, ge=0, le=1, description="likewise its item's")
    spectral_power: float = Field(1.5, ge=0, description="scores use singular values to this power")
    spectral_popularity: float = Field(
        0.2, ge=0, le=1, description="item rows are as long as degree^this makes them, where nothing is trained"
    )
    spectral_iterations: int = Field(8, ge=0, description="power iterations: more find the singular vectors better")

    def encoder_choice(self) -> EncoderChoice:
        """The encoder that these settings name, to be made."""
        return ENCODERS[self.encoder]()


class LossConfig(_Section):
    """The training loss: the name of one of `tf_hqgnn.losses`, and its settings.

    The settings are those of the registered losses, which say what is allowed. Settings of another loss than the named
    one may be there and count for nothing; all losses of the package have theirs filled in.
    """

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, _registered(LOSSES)] = "softmax"
    weight_decay: float = Field(0.0, ge=0, description="L2 on the batch's rows of the tables, before any encoder")

    @model_validator(mode="before")
    @classmethod
    def _check_settings(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if key not in cls.model_fields}
        chosen = values.get("name", cls.model_fields["name"].default)
        # The chosen loss comes last: where two losses have a setting of one name, its rules and its default count.
        names = sorted(LOSSES.names(), key=lambda name: name == chosen)
        fields = {key: (field.annotation, field) for name in names for key, field in LOSSES[name].model_fields.items()}
        settings = create_model("LossSettings", __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
        filled = {
            key
            for name in names
            if name == chosen or LOSSES.comes_with_package(name)
            for key in LOSSES[name].model_fields
        }
        checked = settings.model_validate(given).model_dump()
        return {**values, **{key: value for key, value in checked.items() if key in filled or key in given}}

    @classmethod
    def setting_names(cls) -> list[str]:
        """All settings, those of the losses included."""
        of_losses = [key for name in LOSSES.names() for key in LOSSES[name].model_fields]
        return list(dict.fromkeys(["name", *of_losses, *cls.model_fields]))

    def make(self) -> Loss:
        """The loss that these settings name."""
        return make_loss(self.name, **{key: getattr(self, key) for key in LOSSES[self.name].model_fields})


class TrainingConfig(_Section):
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
        "cluster (tf_hqgnn.distribution)",
    )
    warm_start: str | None = Field(
        "auto",
        description="a run directory whose rows training starts from; auto: in a pipeline those of the model that was "
        "blessed last, else none; null: none",
    )
    warm_epochs: int = Field(10, ge=1, description="in place of max_epochs where a training starts from another's rows")
    warm_learning_rate: float = Field(0.01, gt=0, description="likewise in place of learning_rate")
    refit: bool = Field(
        False, description="once epochs and propagation are chosen, train anew on training and validation interactions"
    )


class PropagationConfig(_Section):
    """The post-training ODE dh/dt = A h + e from 0 to t1."""

    solver: Annotated[str, _registered(SOLVERS)] = "euler"
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


class DistillationConfig(_Section):
    """How codes learn to rank as the full-precision rows do (tf_hqgnn.training.distillation)."""

    max_epochs: int = Field(30, ge=1)
    evaluate_every: int = Field(5, ge=1, description="epochs between validations")
    batch_size: int = Field(256, ge=1, description="users a step, at most")
    num_items: int | None = Field(8192, ge=1, description="items a step, sampled if there are more; null takes all")
    learning_rate: float = Field(0.1, gt=0, description="of items: times their rms, over 2^bits - 1")
    user_learning_rate: float = Field(0.1, gt=0, description="of users, likewise")
    top_share: float = Field(
        0.65, gt=0, lt=1, description="of a user's softmax, that the 20 best items have: sets its temperature"
    )


class QuantizationConfig(_Section):
    """Low-bit codes of the rows that are served (tf_hqgnn.quantization); `bits` null serves float32."""

    bits: int | None = Field(None, ge=1, le=8, description="a number of an item's row")
    user_bits: int | None = Field(8, ge=1, le=8, description="a number of a user's row; null keeps users in float32")
    method: Literal["post_training", "distillation", "fine_tuning"] = Field(
        "distillation", description="rounded; trained to rank as before; trained on by the model's own loss"
    )
    mode: Literal["per_row", "per_tensor"] = Field("per_row", description="what shares one range of values")
    symmetric: bool = Field(True, description="ranges are centred on 0")
    estimator: Annotated[str, _registered(ESTIMATORS)] = "gste"
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


class EvaluationConfig(_Section):
    """Full-catalogue ranking."""

    k: tuple[int, ...] = (10, 20, 50)
    monitor: str = Field(
        "ndcg@20",
        pattern=r"^(recall|ndcg|mrr|hit|precision|coverage)@[1-9][0-9]*$",
        description="the validation metric that chooses: recall, ndcg, mrr, hit, precision or coverage at any k",
    )
    chunk_size: int = Field(1024, ge=1, description="users ranked by one call, fewer where the catalogue is large")
    validation_users: int = Field(
        50_000, ge=1, description="users by whom a training is judged, at most: a sample; `evaluate` takes them all"
    )

    @property
    def monitor_k(self) -> int:
        """The cut-off of `monitor`."""
        return int(self.monitor.partition("@")[2])


class RetrievalConfig(_Section):
    """ScaNN's index; what is None is chosen: leaves by the catalogue's size, the others by the recall they reach."""

    index: Literal["auto", "exact", "scann"] = Field(
        "auto", description="of hqgnn_scann; auto: exact below 20,000 items, where searching gains nothing"
    )
    num_leaves: int | None = Field(None, ge=1)
    num_leaves_to_search: int | None = Field(None, ge=1)
    reorder: int | None = Field(None, ge=1, description="candidates at least that the rows themselves score")
    target_recall: float = Field(0.98, gt=0, le=1, description="of the exact 100 best items, for a sample of users")

    @model_validator(mode="after")
    def _exact_has_no_sizes(self) -> RetrievalConfig:
        given = [name for name in ("num_leaves", "num_leaves_to_search", "reorder") if getattr(self, name) is not None]
        if self.index == "exact" and given:
            raise ValueError(f"{given[0]} is of ScaNN, but index is exact: leave one of them out")
        return self


class ExportConfig(_Section):
    """What the SavedModels answer; `quantization.bits` says what they hold."""

    default_k: int = Field(10, ge=1, description="answers of serving_default and tf_example")
    jit_compile: bool = Field(
        False,
        description="exact search of codes by XLA, 2 to 3 times as fast; TF Serving on CPU then needs "
        "--xla_cpu_compilation_enabled=true",
    )


class RangeConfig(_Section):
    """Values of one setting that `tf-hqgnn tune` tries: from `low` to `high`, or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(False, description="by orders of magnitude")
    choices: tuple[bool | int | float | str | None, ...] = ()

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


class TuneConfig(_Section):
    """What `tf-hqgnn tune` searches; a training takes no notice of it."""

    ranges: dict[str, RangeConfig] = Field({}, description="by section.key; empty takes tf_hqgnn.tuning's defaults")


class Config(_Section):
    """All settings of a run. `Config.load` reads YAML, `to_yaml` writes it back."""

    seed: int = Field(2020, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    propagation: PropagationConfig = PropagationConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    export: ExportConfig = ExportConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _fine_tuning_fits(self) -> Config:
        quantization, propagation = self.quantization, self.propagation
        if quantization.bits is None or quantization.method != "fine_tuning":
            return self
        if propagation.make_solver().propagates or propagation.normalize:
            raise ValueError(
                "quantization.method fine_tuning codes the rows as the loss sees them: set propagation.solver: none "
                "and propagation.normalize: false, or quantization.method: distillation"
            )
        needs_trace = quantization.make_estimator().follows_hessian and quantization.trace == "exact"
        if needs_trace and not self.loss.make().exact_trace:
            raise ValueError(
                f"loss {self.loss.name} has no exact Hessian trace here: set quantization.trace: hutchinson"
            )
        return self

    @staticmethod
    def load(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
        """Reads a YAML file and applies `section.key=value` overrides.

        Raises:
          InputError: The file is missing, isn't YAML, or a setting is unknown or out of range.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"config {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"config {path}: not UTF-8 text") from error
        return Config.from_yaml(text, overrides, source=str(path))

    @staticmethod
    def from_yaml(text: str, overrides: tuple[str, ...] = (), source: str = "config") -> Config:
        """As `load`, from text."""
        return Config._validated(parse_settings(text, overrides, source, Config), source)

    def with_values(self, values: Mapping[str, Any], source: str = "config") -> Config:
        """These settings with some of them, named `section.key`, replaced.

        Raises:
          InputError: A setting is unknown, or its value or the combination is refused; `source` starts the message.

        Example:
          >>> Config().with_values({"data.path": "no.csv"}).data.path
          'no.csv'
        """
        changed = self.model_dump(mode="json")
        for key, value in values.items():
            set_value(changed, key, value, source)
        return Config._validated(changed, source)

    @staticmethod
    def _validated(values: dict[str, Any], source: str) -> Config:
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{source}: {explain(error, Config)}") from error

    def to_yaml(self) -> str:
        """YAML with every setting spelt out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
