"""The wheel, and a folder that other users may enter, which pytest's own are not."""

import shutil
import tempfile
from pathlib import Path

import pytest
from clean import build_wheel


@pytest.fixture(scope="session")
def place():
    """A folder for environments and what is made in them."""
    folder = Path(tempfile.mkdtemp(prefix="tf_hqgnn-install-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def wheel(place):
    """The wheel of this checkout."""
    (place / "wheel").mkdir()
    return build_wheel(place / "wheel")
