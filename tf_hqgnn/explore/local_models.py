"""The models of an export directory, several versions of each, behind TF Serving's REST interface in this process."""

from __future__ import annotations

from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from tf_hqgnn.serving.batching import Batcher
from tf_hqgnn.serving.directory import find_models
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.manager import ModelManager
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.rest import RestApi
from tf_hqgnn.serving.service import Service
from tf_hqgnn.types import InputError


class LocalModels:
    """Load models, and answer by them.

    Args:
      export_dir: holds one folder per model, each with numbered versions.
      num_versions: how many of the newest versions of each model are served, >= 1.

    Raises:
      InputError: A model has a name that can't stand in a path.

    Attributes:
      application: answers TF Serving's REST.
    """

    def __init__(self, export_dir: Path, num_versions: int) -> None:
        metrics = Metrics()
        configs = []
        for name in find_models(export_dir):
            config = ModelConfig(name=name, base_path=str((export_dir / name).absolute()))
            config.model_version_policy.latest.num_versions = num_versions
            configs.append(config)
        try:
            self._manager = ModelManager(None, configs=configs, metrics=metrics)
        except ServingError as error:
            raise InputError(error.message) from error
        self._export_dir = export_dir
        self._batcher = Batcher(None, metrics)
        self.application = RestApi(Service(self._manager, self._batcher, metrics=metrics))
        self._stopped = False

    def start(self) -> None:
        """Load the models; return when each has a version that answers, or none that loads.

        Raises:
          InputError: Not one of them can be loaded.
        """
        self._manager.start()
        if not self._manager.served():
            raise InputError(f"{self._export_dir}: no model can be loaded: {self._manager.failures()}")

    def stop(self) -> None:
        """End all threads; more than one call does no harm."""
        if not self._stopped:
            self._stopped = True
            self.application.close()
            self._batcher.stop()
            self._manager.stop()
