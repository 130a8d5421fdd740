"""The models of an export directory: finds them, and leads each request to the version that is served."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Iterator

from tf_hqgnn.serving.directory import find_models
from tf_hqgnn.serving.errors import not_found
from tf_hqgnn.serving.loader import LoadedVersion
from tf_hqgnn.serving.model import ServedModel, VersionStatus


class ModelManager:
    """Watches `base_path` and serves the newest loadable version of every model in it.

    Args:
      base_path: Holds one folder per model, each with numbered version folders. Models that appear later are picked up.
      poll_seconds: Time between two looks at the directory, > 0.
    """

    def __init__(self, base_path: Path, poll_seconds: float = 1.0) -> None:
        self._base_path = base_path
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._models: dict[str, ServedModel] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)

    def start(self) -> None:
        """Begins to load every model and returns once each has a version that answers, or none that loads."""
        self._look()
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
    def lease(self, name: str, version: int | None = None) -> Iterator[LoadedVersion]:
        """The loaded version for one request; it isn't unloaded before the block ends.

        Args:
          name: The model.
          version: The one wanted, or None for the one served.

        Raises:
          ServingError: NOT_FOUND if the model, or that version of it, isn't served.
        """
        model = self._models.get(name)
        leased = None if model is None else model.acquire(version)
        if model is None or leased is None:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise not_found(f"Servable not found for request: {wanted}")
        try:
            yield leased.loaded
        finally:
            model.release(leased)

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
                raise not_found(f"Could not find version {version} of model {name}")
        if not known:
            raise not_found(f"Could not find any versions of model {name}")
        return known

    def served(self) -> dict[str, int]:
        """The version that answers now, of each model that has one."""
        versions = {name: model.served_version for name, model in self._snapshot().items()}
        return {name: version for name, version in sorted(versions.items()) if version is not None}

    def names(self) -> list[str]:
        """All models seen so far, served or not."""
        return sorted(self._snapshot())

    def _snapshot(self) -> dict[str, ServedModel]:
        with self._lock:
            return dict(self._models)

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self._look()

    def _look(self) -> None:
        for name in find_models(self._base_path):
            with self._lock:
                if name in self._models:
                    continue
                self._models[name] = model = ServedModel(name, self._base_path / name, self._poll_seconds)
            model.start()
