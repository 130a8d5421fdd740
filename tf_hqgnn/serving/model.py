"""One model: its versions' states, and the thread that loads new versions and unloads old ones."""

from __future__ import annotations

import gc
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from tf_hqgnn.serving.directory import Fingerprint, find_versions, fingerprint, is_settled
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.loader import LoadedVersion, load_version

log = logging.getLogger(__name__)

_State = get_model_status_pb2.ModelVersionStatus
_REMEMBERED = 16


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus says of one version.

    Args:
      version: Its number.
      state: ModelVersionStatus.State: START, LOADING, AVAILABLE, UNLOADING or END.
      error: Why it ended, if it did not load.
    """

    version: int
    state: int
    error: ServingError | None = None


class Lease:
    """A loaded version and the number of requests in it; both guarded by the lock of its model."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self.loaded = loaded
        self.in_flight = 0


class ServedModel:
    """Serves the newest version of a folder that loads.

    The rule at every look, newest first: the version served stays if nothing newer loads; a version that failed is
    tried again when a file of it changes; a version whose files are still being written waits. So a broken new version
    leaves the old one in place, a deleted version gives way to the one before it, and a start with a broken newest
    version serves the one before it (where TF Serving would serve none). A model that was served stays served even if
    its folder vanishes. What is overwritten in place while it is served isn't noticed: give it a new number.

    Args:
      name: The model's name.
      path: Its folder.
      poll_seconds: Time between two looks.
    """

    def __init__(self, name: str, path: Path, poll_seconds: float) -> None:
        self.name = name
        self._path = path
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._current: Lease | None = None
        self._retiring: list[Lease] = []
        self._status: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._seen: dict[int, Fingerprint] = {}
        self._stopping = False
        self._settled = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)

    def start(self) -> None:
        """Begins to look and load, in the model's own thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the load it may be in."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._settled.set()

    def wait_settled(self) -> None:
        """Returns once a version answers or every version that is there has failed."""
        self._settled.wait()

    @property
    def served_version(self) -> int | None:
        """The version that answers now."""
        current = self._current
        return None if current is None else current.loaded.version

    def status(self) -> list[VersionStatus]:
        """All known versions, newest first."""
        with self._lock:
            return [self._status[version] for version in sorted(self._status, reverse=True)]

    def acquire(self, version: int | None) -> Lease | None:
        """A hold on the version served, if it is `version` (None: whichever); every hold needs a `release`."""
        with self._lock:
            current = self._current
            if current is None or (version is not None and version != current.loaded.version):
                return None
            current.in_flight += 1
            return current

    def release(self, lease: Lease) -> None:
        """Gives a hold back; the last one of a retired version lets the model's thread unload it."""
        with self._lock:
            lease.in_flight -= 1
            drained = lease.in_flight == 0 and lease is not self._current
        if drained:
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            waiting = self._look()
            if not waiting or self._current is not None:
                self._settled.set()
            self._unload_drained()
            self._wake.wait(self._poll_seconds)
            self._wake.clear()

    def _look(self) -> bool:
        """Loads the newest version that should be served and isn't. True if one is still being written."""
        waiting = False
        found = find_versions(self._path)
        self._forget(set(found))
        for version, path in found.items():
            if self._stopping or version == self.served_version:
                break
            now = fingerprint(path)
            if self._failed.get(version) == now:
                continue
            before, self._seen[version] = self._seen.get(version), now
            if not is_settled(now, before, self._poll_seconds):
                self._set_status(version, _State.START)
                waiting = True
                continue
            if self._load(version, path, now):
                break
        return waiting

    def _load(self, version: int, path: Path, before: Fingerprint) -> bool:
        self._set_status(version, _State.LOADING)
        log.info("%s version %d: loading", self.name, version)
        try:
            loaded = load_version(path, version)
            if fingerprint(path) != before:
                raise ServingError(grpc.StatusCode.ABORTED, f"{path} changed while it was loaded")
        except ServingError as error:
            # Content that changed meanwhile differs from `before`, so it is tried again at the next look.
            self._failed[version] = before
            self._set_status(version, _State.END, error)
            log.error("%s version %d: not served: %s: %s", self.name, version, error.code.name, error.message)
            return False
        self._failed.pop(version, None)
        self._swap(Lease(loaded))
        return True

    def _swap(self, new: Lease) -> None:
        with self._lock:
            old, self._current = self._current, new
            self._status[new.loaded.version] = VersionStatus(new.loaded.version, _State.AVAILABLE)
            if old is not None:
                self._retiring.append(old)
                self._status[old.loaded.version] = VersionStatus(old.loaded.version, _State.UNLOADING)
        log.info("%s version %d: available", self.name, new.loaded.version)

    def _unload_drained(self) -> None:
        with self._lock:
            drained = [lease for lease in self._retiring if lease.in_flight == 0]
            self._retiring = [lease for lease in self._retiring if lease.in_flight > 0]
        if not drained:
            return
        versions = [lease.loaded.version for lease in drained]
        drained.clear()
        # A loaded SavedModel is full of reference cycles: without this its memory stays until some later collection.
        gc.collect()
        for version in versions:
            self._set_status(version, _State.END)
            log.info("%s version %d: unloaded", self.name, version)

    def _set_status(self, version: int, state: int, error: ServingError | None = None) -> None:
        with self._lock:
            self._status[version] = VersionStatus(version, state, error)

    def _forget(self, present: set[int]) -> None:
        """Drops failures whose folder is gone, and the oldest ended versions, so that nothing grows for ever."""
        for version in set(self._seen) - present:
            self._seen.pop(version)
            self._failed.pop(version, None)
        with self._lock:
            waiting = [
                version
                for version, status in self._status.items()
                if version not in present and status.state in (_State.START, _State.LOADING)
            ]
            ended = sorted(
                version
                for version, status in self._status.items()
                if version not in present and status.state == _State.END
            )
            for version in waiting + ended[:-_REMEMBERED]:
                del self._status[version]
