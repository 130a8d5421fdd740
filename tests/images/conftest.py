"""A builder of images with its base, and a checkout as somebody has it whose umask is 077."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(folder) for folder in (_TESTS / "images", _TESTS / "pipelines") if str(folder) not in sys.path]

from builder import ROOT, Buildah, make_private, missing  # noqa: E402


@pytest.fixture(scope="session")
def builder():
    """Buildah with the base in its store, which stays for the next time."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    found = Buildah(ROOT / ".images")
    found.make_base()
    yield found
    found.clean()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """The repository's files, readable for their owner alone; tests add an export or change the code."""
    folder = tmp_path_factory.mktemp("checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("benchmarks/results"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    make_private(folder)
    return folder
