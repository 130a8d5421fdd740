"""The image of the steps: its Dockerfile by hadolint and by our rules, and the script that builds and pushes it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HADOLINT = ROOT / ".venv-serving" / "bin" / "hadolint"
DOCKERFILE = ROOT / "pipelines" / "Dockerfile"
SCRIPT = ROOT / "pipelines" / "build_image.sh"


def problems(text: str) -> list[str]:
    """Of the Dockerfile; sources of COPY are relative to the repository."""
    text = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found = []
    base = r"docker\.io/library/python:3\.1[01]\.\d+-slim-\w+@sha256:[0-9a-f]{64}"
    if not re.search(rf"^ARG BASE_IMAGE={base}$", text, flags=re.MULTILINE):
        found.append("the base isn't a slim Python 3.10 or 3.11, pinned by digest")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    names = [stage.partition("\n")[0] for stage in stages]
    if names != ["${BASE_IMAGE} AS dependencies", "dependencies AS package", "${BASE_IMAGE} AS run"]:
        found.append("expected dependencies, package and run on one base: the environment names its Python by path")
    first, last = stages[0], stages[-1]
    if re.search(r"tf_hqgnn|pipelines", first):
        found.append("a change of code makes the layer of the dependencies anew")
    if re.findall(r"^COPY (?!--from=)", last, flags=re.MULTILINE) or "apt-get" in last:
        found.append("the last stage holds more than the environment")
    if not last.rstrip().endswith("COPY --from=package /opt/app /opt/app") or "PYTHONPATH=/opt/app" not in last:
        found.append("the package isn't the last layer")
    if not re.search(r"^USER [1-9]\d*:\d+$", last, flags=re.MULTILINE):
        found.append("runs as root")
    folders = "/gcs /s3 /minio /home/hqgnn"
    if f"mkdir -p {folders} && chown 1000:0 {folders} && chmod 0775 {folders}\n" not in last:
        found.append("Kubeflow's launcher can't write artifacts under /gcs, /s3, /minio as any user of group 0")
    if "MPLCONFIGDIR=/tmp/" not in last:
        found.append("matplotlib has no folder where the root is read-only")
    installs = re.findall(r"pip install ([^&]*)", text)
    if not all("--require-hashes" in install or "--target /opt/app ." in install for install in installs):
        found.append("something is installed without the lock")
    lock = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    removed = re.search(r"uv pip uninstall ([^&]*)", text)
    packages = removed[1].split() if removed else ()
    found += [f"{package} is removed, which the lock doesn't have" for package in packages if package not in lock]
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, flags=re.MULTILINE):
        found += [f"COPY {source}: no such file" for source in sources.split() if not (ROOT / source).exists()]
    return found


def test_dockerfile():
    assert HADOLINT.exists(), f"{HADOLINT} is missing: `make .venv-serving/.installed` makes it"
    command = [HADOLINT, "--failure-threshold", "style", "--format", "gnu", DOCKERFILE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert problems(DOCKERFILE.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("python:3.11.9-slim-bookworm", "python:latest", "isn't a slim Python"),
        ("docker.io/library/python", "python", "isn't a slim Python"),
        ("@sha256:", "", "pinned by digest"),
        ("USER 1000:1000\n", "", "runs as root"),
        ("pip install --require-hashes ", "pip install ", "installed without the lock"),
        ("--no-deps --require-hashes ", "", "installed without the lock"),
        ("mkdir -p /gcs /s3 /minio", "mkdir -p /gcs /s3", "can't write artifacts"),
        ("chown 1000:0", "chown 1000:1000", "can't write artifacts"),
        ("chmod 0775", "chmod 0755", "can't write artifacts"),
        ("COPY tf_hqgnn tf_hqgnn", "COPY hqgnn tf_hqgnn", "COPY hqgnn: no such file"),
        (" ruff ", " rough ", "rough is removed, which the lock doesn't have"),
        ("FROM ${BASE_IMAGE} AS run", "FROM python:3.11.9-alpine AS run", "run on one base"),
        ("WORKDIR /home/hqgnn", "COPY setup.py /home/hqgnn", "holds more than the environment"),
        (
            "FROM dependencies AS package\n",
            "COPY tf_hqgnn tf_hqgnn\nFROM dependencies AS package\n",
            "a change of code",
        ),
        ("PYTHONPATH=/opt/app ", "", "the package isn't the last layer"),
        ("MPLCONFIGDIR=/tmp/matplotlib ", "", "matplotlib has no folder"),
    ],
)
def test_own_rules_find_what_is_broken(old, new, expected):
    text = DOCKERFILE.read_text()
    assert old in text
    assert expected in "\n".join(problems(text.replace(old, new)))


@pytest.fixture
def docker(tmp_path):
    """A docker that writes down what it is told, fails at the word in FAIL, and says that it is ${IS:-Docker}."""
    program = tmp_path / "docker"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "${IS:-Docker} version 1" && exit\n'
        'echo "$@" >> "$0.log"\n[ "$1" != "$FAIL" ]\n'
    )
    program.chmod(0o755)
    return program


def build(docker: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    # From elsewhere, as a user may start it.
    return subprocess.run(
        ["bash", SCRIPT, *arguments],
        cwd=docker.parent,
        env={**os.environ, "DOCKER": str(docker), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_image_is_built_tried_and_pushed(docker):
    done = build(docker, "host:5000/hqgnn:7", "--build-arg", "BASE_IMAGE=x:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "built and pushed host:5000/hqgnn:7\n"
    info, built, tried, pushed = (docker.parent / "docker.log").read_text().splitlines()
    assert info == "info"
    assert built == "build --file pipelines/Dockerfile --tag host:5000/hqgnn:7 --build-arg BASE_IMAGE=x:1 ."
    assert tried.startswith("run --rm --network none --entrypoint python host:5000/hqgnn:7 -c import tf_hqgnn.tfx.kube")
    assert pushed == "push host:5000/hqgnn:7"


def test_podman_keeps_healthchecks_and_shells(docker):
    assert build(docker, "host:5000/hqgnn:7", IS="podman").returncode == 0
    log = (docker.parent / "docker.log").read_text()
    assert "build --format docker --file pipelines/Dockerfile --tag host:5000/hqgnn:7 .\n" in log


def test_it_can_be_kept_from_pushing(docker):
    assert build(docker, "hqgnn:7", "--no-push").stdout == "built hqgnn:7\n"
    assert "push" not in (docker.parent / "docker.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        ([], {}, 2, "no image named; usage: pipelines/build_image.sh HOST/NAME:TAG [--no-push]"),
        (["--no-push"], {}, 2, "no image named"),
        (["host:5000/hqgnn"], {}, 2, "host:5000/hqgnn has no tag; give one that is new with every build"),
        (["hqgnn:latest"], {}, 2, "would run an old latest; give it a tag of its own"),
        (["hqgnn:7"], {"DOCKER": "no-such-docker"}, 2, "no-such-docker isn't installed; install it, or name another"),
        (["hqgnn:7"], {"FAIL": "info"}, 2, "docker doesn't answer; start its service"),
        (["hqgnn:7"], {"FAIL": "build"}, 1, "the build of hqgnn:7 failed; its last lines say where"),
        (["hqgnn:7"], {"FAIL": "run"}, 1, "hqgnn:7 was built, but what the steps run can't be imported in it"),
        (["hqgnn:7"], {"FAIL": "push"}, 1, "hqgnn:7 was built, but not pushed; is `"),
    ],
)
def test_what_fails_is_told_in_one_line(docker, arguments, environment, code, message):
    done = build(docker, *arguments, **environment)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_what_is_tried_in_the_image_is_there():
    modules = re.search(r"'import (.*)'", SCRIPT.read_text())[1].split(", ")
    assert "tf_hqgnn.tfx.kubeflow_step" in modules
    for module in modules:
        if module.startswith("tf_hqgnn"):
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
