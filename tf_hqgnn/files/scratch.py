"""A temporary folder for a whole piece of work, so that nothing that its libraries make is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make `TMPDIR` a folder of its own, here and in processes that start meanwhile; remove it in the end.

    TFX and Beam make temporary folders for every component and never delete them.

    Example:
      >>> with scratch_folder() as folder:
      ...     left = tempfile.mkdtemp()
      >>> Path(left).parent == folder, Path(left).exists()
      (True, False)
    """
    given, found = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="tf_hqgnn-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = found
            if given is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = given
