"""What is installed is named by version and hash: in the Makefile, in the Dockerfiles, in every lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(
    path
    for pattern in ("*.lock", "*/*.lock", "*/*/*.lock")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def joined(path: str) -> str:
    """A file without comments, continued lines in one."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    return re.sub(r"\s*\\\n\s*", " ", text)


def entries(text: str) -> dict[str, list[str]]:
    """The requirements of a lock: name==version -> its hashes."""
    text = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return {
        line.split()[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})", line) for line in text.splitlines() if line.strip()
    }


def installs(text: str) -> list[str]:
    """Commands of pip and uv that install something, but for the checkout itself, which has no dependencies then."""
    commands = re.findall(
        r"(?:pip|-m pip[^\n]*?) install [^\n;&|]*", text.replace("$(PIP_INSTALL)", "pip install --require-hashes")
    )
    return [command for command in commands if not re.search(r"--no-deps .*(-e|--target /opt/app) \.", command)]


@pytest.mark.parametrize(
    "path", ["Makefile", "pipelines/Dockerfile", "serving/Dockerfile.gpu", "serving/Dockerfile.scann"]
)
def test_nothing_is_installed_without_hashes(path):
    commands = installs(joined(path))
    assert [command for command in commands if "--require-hashes" not in command] == []
    assert commands or path.startswith("serving")


def test_an_install_without_hashes_is_found():
    """In this way uv and torch were installed."""
    for command in ("python -m pip install --quiet uv", "python -m pip --quiet --python x install torch==2.13.0"):
        assert installs(f"\t@{command}\n") != []
        assert "--require-hashes" not in installs(f"\t@{command}\n")[0]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_requirement_of_a_lock_has_a_version_and_hashes(path):
    found = entries(path.read_text())
    assert found
    for name, hashes in found.items():
        assert re.fullmatch(r"[\w.\-\[\],]+==[\w.!+-]+", name), name
        assert hashes, name


def test_locks_know_each_other():
    lock = {
        name.partition("==")[0]: name.partition("==")[2] for name in entries((ROOT / "requirements.lock").read_text())
    }
    (cpu,) = entries((ROOT / "supply_chain" / "requirements-cpu.lock").read_text())
    assert cpu == f"tensorflow-cpu=={lock['tensorflow']}"
    (torch,) = entries((ROOT / "benchmarks" / "recbole" / "torch.lock").read_text())
    assert torch in (ROOT / "benchmarks" / "recbole" / "torch.in").read_text()
    # torch's CPU build has hashes of its own, which no index of PyPI's gives.
    hashes = entries((ROOT / "benchmarks" / "recbole" / "torch.lock").read_text())[torch]
    cpu_hashes = re.findall(r"sha256:(\w{64})", (ROOT / "benchmarks" / "recbole" / "torch-cpu.txt").read_text())
    assert set(cpu_hashes) < set(hashes)


def test_images_are_pinned_by_digest_where_it_is_known():
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", joined("pipelines/Dockerfile"), flags=re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:[\w.-]+@sha256:[0-9a-f]{64}", base)
