"""The settings of a run, in one object with a section for each part of the work."""

from tf_hqgnn.config.auto import AutoConfig
from tf_hqgnn.config.data import DataConfig, SplitConfig
from tf_hqgnn.config.model import LossConfig, ModelConfig
from tf_hqgnn.config.quantization import DistillationConfig, QuantizationConfig
from tf_hqgnn.config.serving import EvaluationConfig, ExportConfig, RetrievalConfig
from tf_hqgnn.config.settings import Config
from tf_hqgnn.config.training import PropagationConfig, TrainingConfig
from tf_hqgnn.config.tune import RangeConfig, TuneConfig

__all__ = [
    "AutoConfig",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "ExportConfig",
    "LossConfig",
    "ModelConfig",
    "PropagationConfig",
    "QuantizationConfig",
    "RangeConfig",
    "RetrievalConfig",
    "SplitConfig",
    "TrainingConfig",
    "TuneConfig",
]
