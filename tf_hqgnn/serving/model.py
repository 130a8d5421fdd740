"""One model: its versions' states, and the thread that loads new versions and unloads old ones."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import threading
import time
from pathlib import Path
from typing import Mapping, TypeAlias

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from tf_hqgnn.serving.completeness import what_is_missing
from tf_hqgnn.serving.directory import Fingerprint, find_versions, fingerprint, is_settled
from tf_hqgnn.serving.errors import ServingError, from_exception, not_found
from tf_hqgnn.serving.loader import load_version
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.version_state import Failure, Lease, VersionStatus

log = logging.getLogger(__name__)

VersionPolicy: TypeAlias = FileSystemStoragePathSourceConfig.ServableVersionPolicy
_State = get_model_status_pb2.ModelVersionStatus
_REMEMBERED = 16
# An incomplete version has failed when no file of it has changed for so many looks.
_PATIENCE = 30
# As TF Serving's load_retry_interval_micros; the first tries come sooner.
MAX_RETRY_SECONDS = 60.0


class ServedModel:
    """Serves the versions of a folder that its policy wants and that load.

    The policy is TF Serving's: the newest (`latest { num_versions: n }`, one if it says nothing), `all`, or `specific`
    ones. The rule at every look, newest first: a version that failed is tried again when a file of it changes, or, if
    all that lacked was a resource (memory, file descriptors), after a while; one whose files are still being written,
    or aren't all there, waits; if a wanted version doesn't load, the next one takes its place. So a
    broken new version leaves the old one in place, a deleted version gives way to the one before it, and a start with a
    broken newest version serves the one before it (where TF Serving would serve none). A version goes only when another
    is there: a model that was served stays served even if its folder vanishes. What is overwritten in place while it is
    served isn't noticed: give it a new number.

    Args:
      name: The model's name.
      path: Its folder.
      poll_seconds: Time between two looks.
      policy: Which versions; None is the newest one.
      metrics: Where loads are counted.

    Attributes:
      labels: Versions by the names that clients may call them.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        poll_seconds: float,
        policy: VersionPolicy | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.labels: Mapping[str, int] = {}
        self._poll_seconds = poll_seconds
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()
        self._loaded: dict[int, Lease] = {}
        self._newest: Lease | None = None
        self._retiring: list[Lease] = []
        self._status: dict[int, VersionStatus] = {}
        self._failed: dict[int, Failure] = {}
        self._waits_for: dict[int, str] = {}
        self._kept: set[int] = set()
        self._retires = True
        self._seen: dict[int, Fingerprint] = {}
        self._stopping = False
        # What is wanted, and what to set once it is there, or can't be.
        self._wanted = (policy or VersionPolicy(), threading.Event())
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)

    def start(self) -> None:
        """Begins to look and load, in the model's own thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the load it may be in."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._wanted[1].set()

    @property
    def policy(self) -> VersionPolicy:
        """Which versions are wanted."""
        return self._wanted[0]

    def set_policy(self, policy: VersionPolicy | None) -> None:
        """Wants other versions from now on; `wait_settled` waits for them. Others stay until `retire_others`."""
        self._retires = False
        self._wanted[1].set()
        self._wanted = (policy or VersionPolicy(), threading.Event())
        self._wake.set()

    def retire_others(self) -> None:
        """Lets versions go that aren't wanted any more; `wait_settled` waits until they don't answer."""
        self._retires = True
        self._wanted[1].set()
        self._wanted = (self._wanted[0], threading.Event())
        self._wake.set()

    def keeps(self, version: int) -> bool:
        """Whether a loaded version stays after `retire_others`."""
        return version in self._kept

    def wait_settled(self) -> None:
        """Returns once the wanted versions answer, or those that are there have failed."""
        self._wanted[1].wait()

    @property
    def served_version(self) -> int | None:
        """The version that answers a request that names none: the newest one loaded."""
        newest = self._newest
        return None if newest is None else newest.loaded.version

    @property
    def in_flight(self) -> int:
        """How many requests the newest version is working on."""
        newest = self._newest
        return 0 if newest is None else newest.in_flight

    def is_served(self, version: int) -> bool:
        """Whether requests for this version are answered."""
        return version in self._loaded

    def status(self) -> list[VersionStatus]:
        """All known versions, newest first."""
        with self._lock:
            return [self._status[version] for version in sorted(self._status, reverse=True)]

    def acquire(self, version: int | None) -> Lease | None:
        """A hold on a loaded version (None: the newest); every hold needs a `release`."""
        with self._lock:
            lease = self._newest if version is None else self._loaded.get(version)
            if lease is not None:
                lease.in_flight += 1
            return lease

    def release(self, lease: Lease) -> None:
        """Gives a hold back; the last one of a retired version lets the model's thread unload it."""
        with self._lock:
            lease.in_flight -= 1
            drained = lease.in_flight == 0 and self._loaded.get(lease.loaded.version) is not lease
        if drained:
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            policy, settled = self._wanted
            try:
                waiting = self._look(policy)
                if not waiting or self._newest is not None:
                    settled.set()
                self._unload_drained()
            except Exception:  # Whatever it is: without this thread the model would never change again.
                log.exception("%s: the look for versions failed", self.name)
                settled.set()
            self._wake.wait(self._poll_seconds)
            self._wake.clear()

    def _look(self, policy: VersionPolicy) -> bool:
        """Loads what should be served and isn't, retires what shouldn't be. True if one is still being written."""
        waiting: set[int] = set()
        found = find_versions(self.path)
        self._forget(set(found))
        if policy.HasField("specific"):
            found = {version: path for version, path in found.items() if version in policy.specific.versions}
        chosen: set[int] = set()
        for version, path in found.items():
            if self._stopping or len(chosen) == _number_wanted(policy):
                break
            if version in self._loaded:
                chosen.add(version)
                continue
            now = fingerprint(path)
            if (failure := self._failed.get(version)) is not None and failure.stands(now):
                continue
            before, self._seen[version] = self._seen.get(version), now
            if self._waits(version, path, now, before):
                self._set_status(version, _State.START)
                waiting.add(version)
            elif self._load(version, path, now):
                chosen.add(version)
        self._kept = chosen or set(self._loaded)
        if chosen and self._retires and not self._stopping:
            self._retire_all_but(chosen)
        with self._lock:
            # What waited at an earlier look and isn't wanted any more, since a newer one is there.
            for version in [one.version for one in self._status.values() if one.state == _State.START]:
                if version not in waiting:
                    del self._status[version]
        return bool(waiting)

    def _waits(self, version: int, path: Path, now: Fingerprint, before: Fingerprint | None) -> bool:
        """Whether files of a version are still to come; the log says once which."""
        missing = what_is_missing(path)
        if missing is None and not is_settled(now, before, self._poll_seconds):
            missing = "its files to be written"
        elif missing is not None and is_settled(now or _folder(path), None, _PATIENCE * self._poll_seconds):
            missing = None  # Nobody is copying: loading says what is wrong.
        if missing is None:
            self._waits_for.pop(version, None)
        elif self._waits_for.get(version) != missing:
            self._waits_for[version] = missing
            log.info("%s version %d: waits for %s", self.name, version, missing)
        return missing is not None

    def _load(self, version: int, path: Path, before: Fingerprint) -> bool:
        self._set_status(version, _State.LOADING)
        log.info("%s version %d: loading", self.name, version)
        start = time.monotonic()
        try:
            if (missing := what_is_missing(path)) is not None:
                raise not_found(f"{path} is incomplete: it lacks {missing}")
            loaded = load_version(path, version)
            if fingerprint(path) != before:
                raise ServingError(grpc.StatusCode.ABORTED, f"{path} changed while it was loaded")
        except Exception as error:
            self._fail(version, path, before, from_exception(error))
            return False
        self._failed.pop(version, None)
        self._metrics.load_attempts.add(str(path), "success")
        self._metrics.load_latency.add(str(path), amount=(time.monotonic() - start) * 1e6)
        with self._lock:
            self._loaded[version] = Lease(loaded)
            self._newest = self._loaded[max(self._loaded)]
            self._status[version] = VersionStatus(version, _State.AVAILABLE)
        log.info("%s version %d: available", self.name, version)
        return True

    def _fail(self, version: int, path: Path, before: Fingerprint, error: ServingError) -> None:
        if not error.is_transient and _lacks_descriptors():
            error = ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no file descriptor is left: {error.message}")
        last = self._failed.get(version)
        attempts = 1 if last is None else last.attempts + 1
        delay = min(self._poll_seconds * 2.0 ** min(attempts, 30), MAX_RETRY_SECONDS)
        self._failed[version] = Failure(before, attempts, time.monotonic() + delay if error.is_transient else None)
        self._metrics.load_attempts.add(str(path), "fail")
        self._set_status(version, _State.END, error)
        again = f"; tried again in {delay:g} s" if error.is_transient else ""
        log.error("%s version %d: not served%s: %s: %s", self.name, version, again, error.code.name, error.message)

    def _retire_all_but(self, chosen: set[int]) -> None:
        with self._lock:
            for version in set(self._loaded) - chosen:
                self._retiring.append(self._loaded.pop(version))
                self._status[version] = VersionStatus(version, _State.UNLOADING)
            self._newest = self._loaded[max(self._loaded)]

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
            self._waits_for.pop(version, None)
        with self._lock:
            ended = sorted(
                version
                for version, status in self._status.items()
                if version not in present and status.state == _State.END
            )
            for version in ended[:-_REMEMBERED]:
                del self._status[version]


def _number_wanted(policy: VersionPolicy) -> int | None:
    """None is all of those that remain."""
    return None if policy.HasField("all") or policy.HasField("specific") else max(1, policy.latest.num_versions)


def _folder(path: Path) -> Fingerprint:
    """In place of the fingerprint of a folder without files."""
    with contextlib.suppress(OSError):
        return (("", 0, 0, path.stat().st_ctime_ns),)
    return ()


def _lacks_descriptors() -> bool:
    """Whether no file can be opened: many libraries name another reason then."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
