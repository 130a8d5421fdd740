"""What `make` targets would do, as make itself prints it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_clean_keeps_what_trainings_left(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("runs/mine", "demo/serving", "bench-results", "build", ".mypy_cache"):
        (tmp_path / name).mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "bench-results", "demo", "runs"]
