"""The models of a server: finds them or is told them, and leads each request to the version that is asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import Collection, Iterator, Sequence

import grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from tf_hqgnn.hints import did_you_mean
from tf_hqgnn.serving.directory import find_models
from tf_hqgnn.serving.errors import ServingError, invalid_argument, not_found, printable
from tf_hqgnn.serving.loader import LoadedVersion
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.model import ServedModel, VersionPolicy
from tf_hqgnn.serving.version_state import VersionStatus

log = logging.getLogger(__name__)

# What stands in paths, messages and logs. REST couldn't tell "/" and ":" from its own.
_NAME = re.compile(r"[\w.@+-](?:[\w .@+-]{0,126}[\w.@+-])?")
_NAME_RULE = "a model's name has 1 to 128 letters, digits and characters of ._@+- (inside, spaces too)"


class ModelManager:
    """Serves the models of a directory, or those of a list of configs.

    Args:
      base_path: Holds one folder per model, each with numbered version folders: the newest loadable version of each is
        served. Models that appear later are picked up. None if there are `configs`.
      poll_seconds: Time between two looks for models and versions, > 0.
      configs: TF Serving's ModelConfig of each model.
      metrics: Where loads are counted.

    Raises:
      ServingError: INVALID_ARGUMENT for configs that contradict each other or lack something.
    """

    def __init__(
        self,
        base_path: Path | None,
        poll_seconds: float = 1.0,
        configs: Sequence[ModelConfig] = (),
        metrics: Metrics | None = None,
    ) -> None:
        _check(configs)
        self._base_path = base_path
        self._poll_seconds = poll_seconds
        self._metrics = metrics or Metrics()
        # The only paths ever opened, by what a reload may call them.
        self._paths = {os.path.normpath(config.base_path): Path(config.base_path) for config in configs}
        self._lock = threading.Lock()
        self._models = {config.name: self._new(config) for config in configs}
        for config in configs:
            self._models[config.name].labels = dict(config.version_labels)
        self._odd_names: set[str] = set()
        self._reloading = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)

    def start(self) -> None:
        """Begins to load every model and returns once each has a version that answers, or none that loads."""
        for model in self._models.values():
            model.start()
        self.look()
        for model in self._snapshot().values():
            model.wait_settled()
        self._thread.start()

    def stop(self) -> None:
        """Ends all threads of the manager. Models stay callable for requests that hold them."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        for model in self._snapshot().values():
            model.stop()

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[LoadedVersion]:
        """The loaded version for one request; it isn't unloaded before the block ends.

        Args:
          name: The model.
          version: The one wanted, or None for the newest one served.
          label: What stands for the version wanted, in place of `version`.

        Raises:
          ServingError: NOT_FOUND if the model, or that version of it, isn't served; INVALID_ARGUMENT if the model has
            no such label.
        """
        while True:
            model = self._models.get(name)
            wanted_version = version if label is None else self.labelled(name, label)
            leased = None if model is None else model.acquire(wanted_version)
            # A label that moves meanwhile leads to a version that is there by now.
            if leased is not None or label is None or self.labelled(name, label) == wanted_version:
                break
        if model is None or leased is None:
            shown = printable(name)
            wanted = f"Latest({shown})" if wanted_version is None else f"Specific({shown}, {wanted_version})"
            raise not_found(f"Servable not found for request: {wanted}")
        try:
            yield leased.loaded
        finally:
            model.release(leased)

    def labelled(self, name: str, label: str) -> int:
        """The version that a label stands for.

        Raises:
          ServingError: INVALID_ARGUMENT if the model has no such label.
        """
        model = self._models.get(name)
        labels = {} if model is None else model.labels
        version = labels.get(label)
        if version is None:
            meant = printable(did_you_mean(label, labels))
            raise invalid_argument(f"Unrecognized servable version label: {printable(label)}{meant}")
        return version

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models in place of those before, and no others; returns when they are loaded, or can't be.

        What is new loads first, then labels move, then what isn't wanted any more goes: whatever stays, or is asked for
        by a label that stays, is served without a gap. No path of `configs` is opened: a base_path must be one that the
        server has been started with, and stands for that.

        Raises:
          ServingError: INVALID_ARGUMENT for a wrong config or none, PERMISSION_DENIED for an unknown base_path,
            FAILED_PRECONDITION for a label on a version that can't be loaded; nothing has changed then. NOT_FOUND if
            something wanted can't be served, while the rest is.
        """
        with self._reloading:
            if not configs:
                raise invalid_argument("the list of models is empty: name at least one, or stop the server")
            _check(configs)
            _check_paths(configs)
            for config in configs:
                self._check_known(config)
            before = self._snapshot()
            policies = {name: model.policy for name, model in before.items()}
            models = {config.name: self._renewed(config, before.get(config.name)) for config in configs}
            for name, model in models.items():
                if model is not before.get(name):
                    model.start()
                model.wait_settled()
            try:
                for config in configs:
                    _check_labels(config, models[config.name])
            except ServingError:
                self._go_back(before, models, policies)
                raise
            for config in configs:
                models[config.name].labels = dict(config.version_labels)
            with self._lock:
                # From now on the models are listed, not looked for.
                self._base_path = None
                self._models = models
            for name, model in before.items():
                if model is not models.get(name):
                    model.stop()
            for model in models.values():
                model.retire_others()
                model.wait_settled()
            missing = [text for config in configs for text in _missing(config, models[config.name])]
            if missing:
                raise not_found(f"not served: {', '.join(missing)}: {self.failures() or 'there are no such versions'}")

    def _go_back(
        self, before: dict[str, ServedModel], models: dict[str, ServedModel], policies: dict[str, VersionPolicy]
    ) -> None:
        """Wants what was wanted before a reload, and ends models that it has brought."""
        for name, model in models.items():
            if model is before.get(name):
                model.set_policy(policies[name])
                model.retire_others()
                model.wait_settled()
            else:
                model.stop()

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The state of every known version of a model, newest first, or of one version.

        Raises:
          ServingError: NOT_FOUND as from TF Serving's get_model_status_impl.cc.
        """
        model = self._models.get(name)
        known = [] if model is None else model.status()
        if version is not None:
            known = [status for status in known if status.version == version]
            if not known:
                raise not_found(f"Could not find version {version} of model {printable(name)}")
        if not known:
            raise not_found(f"Could not find any versions of model {printable(name)}")
        return known

    def failures(self) -> str:
        """Why versions aren't served, and which models have none."""
        found = []
        for name, model in sorted(self._snapshot().items()):
            known = model.status()
            found += [f"{name} version {one.version}: {one.error.message}" for one in known if one.error is not None]
            if not known:
                found.append(f"{name} has no version in {model.path}")
        return "; ".join(found)

    def served(self) -> dict[str, int]:
        """The version that answers now, of each model that has one."""
        versions = {name: model.served_version for name, model in self._snapshot().items()}
        return {name: version for name, version in sorted(versions.items()) if version is not None}

    def is_served(self, name: str, version: int) -> bool:
        """Whether requests for this version of a model are answered."""
        model = self._models.get(name)
        return model is not None and model.is_served(version)

    def in_flight(self, name: str) -> int:
        """How many requests the version of a model that answers now is working on; 0 for a model that isn't served."""
        model = self._models.get(name)
        return 0 if model is None else model.in_flight

    def known(self) -> Collection[str]:
        """The names of all models, served or not."""
        return self._models.keys()

    def _new(self, config: ModelConfig) -> ServedModel:
        path = self._paths[os.path.normpath(config.base_path)]
        return ServedModel(config.name, path, self._poll_seconds, _policy(config), self._metrics)

    def _renewed(self, config: ModelConfig, model: ServedModel | None) -> ServedModel:
        if model is None or self._paths[os.path.normpath(config.base_path)] != model.path:
            return self._new(config)
        model.set_policy(_policy(config))
        return model

    def _check_known(self, config: ModelConfig) -> None:
        if os.path.normpath(config.base_path) not in self._paths:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"model {config.name}: base_path {printable(config.base_path)} isn't one that this server was started "
                "with: name it in --model_config_file and start again",
            )

    def _snapshot(self) -> dict[str, ServedModel]:
        with self._lock:
            return dict(self._models)

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self.look()

    def look(self) -> None:
        """Looks once for models that have come into the base path."""
        base_path = self._base_path
        for name in [] if base_path is None else find_models(base_path):
            if not _NAME.fullmatch(name):
                if name not in self._odd_names:
                    log.warning("%s isn't served: %s", printable(name), _NAME_RULE)
                self._odd_names.add(name)
                continue
            with self._lock:
                if name in self._models or self._base_path is None:
                    continue
                config = ModelConfig(name=name, base_path=str((self._base_path / name).absolute()))
                self._paths[config.base_path] = self._base_path / name
                model = self._new(config)
                # A new dictionary: requests read the old one without a lock.
                self._models = {**self._models, name: model}
            model.start()


def _check(configs: Sequence[ModelConfig]) -> None:
    names: set[str] = set()
    for config in configs:
        if not config.name:
            raise invalid_argument(f"a model config has no name (base_path {printable(config.base_path)!r})")
        if not _NAME.fullmatch(config.name):
            raise invalid_argument(f"model {printable(config.name)}: {_NAME_RULE}")
        if config.name in names:
            raise invalid_argument(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
        if not Path(config.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {config.name} to have an absolute path; got base_path()={printable(config.base_path)}"
            )
        if config.model_platform not in ("", "tensorflow"):
            raise invalid_argument(
                f'model {config.name}: expected model_platform "tensorflow", got "{printable(config.model_platform)}"'
            )


def _check_paths(configs: Sequence[ModelConfig]) -> None:
    """Each path once: every further name would load the same versions again."""
    names: dict[str, str] = {}
    for config in configs:
        other = names.setdefault(os.path.normpath(config.base_path), config.name)
        if other != config.name:
            raise invalid_argument(f"models {other} and {config.name} have one base_path: list it once")


def _missing(config: ModelConfig, model: ServedModel) -> list[str]:
    """What the config wants in so many words, and isn't served."""
    specific = config.model_version_policy.specific.versions
    missing = [f"{config.name} version {version}" for version in specific if not model.is_served(version)]
    return missing or ([config.name] if model.served_version is None else [])


def _policy(config: ModelConfig) -> VersionPolicy | None:
    return config.model_version_policy if config.HasField("model_version_policy") else None


def _check_labels(config: ModelConfig, model: ServedModel) -> None:
    for version in config.version_labels.values():
        if not (model.is_served(version) and model.keeps(version)):
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {config.name}, which is not currently "
                "available for inference",
            )
