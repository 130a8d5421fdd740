"""The settings of a run: frozen, strict, and the same object in YAML, Python and a TFX pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tf_hqgnn.config.auto import RACED_SECTIONS, AutoConfig, keep_given
from tf_hqgnn.config.data import DataConfig
from tf_hqgnn.config.ease import EaseConfig
from tf_hqgnn.config.model import LossConfig, ModelConfig
from tf_hqgnn.config.quantization import QuantizationConfig
from tf_hqgnn.config.section import Section
from tf_hqgnn.config.serving import EvaluationConfig, ExportConfig, RetrievalConfig
from tf_hqgnn.config.text import explain, parse_settings, set_value
from tf_hqgnn.config.training import PropagationConfig, TrainingConfig
from tf_hqgnn.config.tune import TuneConfig
from tf_hqgnn.types import InputError


class Config(Section):
    """All settings of a run. `Config.load` reads YAML, `to_yaml` writes it back.

    Example:
      >>> config = Config().with_values({"training.max_epochs": 3})
      >>> config.training.max_epochs, Config().training.max_epochs
      (3, 20)
    """

    seed: int = Field(2020, ge=0, lt=2**31, description="The seed of everything random: splits, starts, batches.")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    propagation: PropagationConfig = PropagationConfig()
    ease: EaseConfig = EaseConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    export: ExportConfig = ExportConfig()
    tune: TuneConfig = TuneConfig()
    auto: AutoConfig = AutoConfig()

    @model_validator(mode="after")
    def _fine_tuning_fits(self) -> Config:
        quantization, propagation = self.quantization, self.propagation
        computed = {*self.evaluation.k, 20, self.evaluation.monitor_k}
        if quantization.monitor is not None and int(quantization.monitor.partition("@")[2]) not in computed:
            raise ValueError(
                f"quantization.monitor {quantization.monitor} is at a cut-off that isn't computed: add it to "
                f"evaluation.k, now {list(self.evaluation.k)}"
            )
        if quantization.bits is None or quantization.method != "fine_tuning":
            return self
        if propagation.make_solver().propagates or propagation.normalize:
            raise ValueError(
                "quantization.method fine_tuning codes the rows as the loss sees them: set propagation.solver: none "
                "and propagation.normalize: false, or quantization.method: distillation"
            )
        if self.ease.columns:
            raise ValueError(
                "quantization.method fine_tuning codes the rows as the loss sees them: set ease.columns: 0, or "
                "quantization.method: distillation"
            )
        needs_trace = quantization.make_estimator().follows_hessian and quantization.trace == "exact"
        if needs_trace and not self.loss.make().exact_trace:
            raise ValueError(
                f"loss {self.loss.name} has no exact Hessian trace here: set quantization.trace: hutchinson"
            )
        return self

    @staticmethod
    def load(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
        """Read a YAML file and apply `section.key=value` overrides.

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
        """Read settings from YAML text, as `load` does from a file."""
        values = parse_settings(text, overrides, source, Config)
        if "keep" in (auto if isinstance(auto := values.get("auto"), dict) else ()):
            # A file that a run wrote, with every setting spelt out.
            keep_given(values, [override.partition("=")[0] for override in overrides])
        else:
            sections = [(name, values[name]) for name in RACED_SECTIONS if isinstance(values.get(name), dict)]
            keep_given(values, [f"{name}.{key}" for name, section in sections for key in section])
        return Config._validated(values, source)

    def with_values(self, values: Mapping[str, Any], source: str = "config") -> Config:
        """Return these settings with some of them, named by `section.key`, replaced.

        Raises:
          InputError: A setting is unknown, or its value or the combination is refused; `source` starts the message.

        Example:
          >>> Config().with_values({"data.path": "no.csv"}).data.path
          'no.csv'
        """
        changed = self.model_dump(mode="json")
        for key, value in values.items():
            set_value(changed, key, value, source)
        keep_given(changed, values)
        return Config._validated(changed, source)

    @staticmethod
    def _validated(values: dict[str, Any], source: str) -> Config:
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{source}: {explain(error, Config)}") from error

    def to_yaml(self) -> str:
        """Return YAML with every setting spelt out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
