"""What a served model knows of each of its versions."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tf_hqgnn.serving.directory import Fingerprint
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.loader import LoadedVersion


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


@dataclass(frozen=True)
class Failure:
    """A load that failed.

    Args:
      files: What was there then. A version that is at fault itself is tried again when they change.
      attempts: How many loads have failed one after the other.
      retry_at: The `time.monotonic()` of the next try, of one that isn't at fault; else None.
    """

    files: Fingerprint
    attempts: int
    retry_at: float | None

    def stands(self, now: Fingerprint) -> bool:
        """Whether another try would fail as well."""
        return self.files == now if self.retry_at is None else time.monotonic() < self.retry_at


class Lease:
    """A loaded version and the number of requests in it; both guarded by the lock of its model."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self.loaded = loaded
        self.in_flight = 0
