"""The Dockerfiles, by hadolint and by what hadolint can't know: TF Serving's flags and the files they name."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import server_flags

ROOT = Path(__file__).resolve().parents[2]
HADOLINT = ROOT / ".venv-serving" / "bin" / "hadolint"
DOCKERFILES = ("Dockerfile.gpu", "Dockerfile.scann")


def hadolint(path: Path) -> str:
    assert HADOLINT.exists(), f"{HADOLINT} is missing: `make .venv-serving/.installed` makes it"
    done = subprocess.run(
        [HADOLINT, "--failure-threshold", "style", "--format", "gnu", path], capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr if done.returncode else ""


def problems(text: str) -> list[str]:
    """Of one Dockerfile; sources of COPY are relative to the repository."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found = [
        f"{image} isn't a pinned TF Serving 2.16"
        for image in re.findall(r"^ARG \w*IMAGE=(\S+)", text, flags=re.MULTILINE)
        if not re.fullmatch(r"tensorflow/serving:2\.16\.\d+(-gpu|-devel)?", image)
    ]
    if not re.search(r"^USER [1-9]\d*:\d+$", text, flags=re.MULTILINE):
        found.append("runs as root")
    copied = set()
    for sources, target in re.findall(r"^COPY (?!--from)(.*) (\S+)$", text, flags=re.MULTILINE):
        for source in sources.split():
            if "${EXPORT}" not in source and not (ROOT / source).is_file():
                found.append(f"COPY {source}: no such file")
            copied.add(target + Path(source).name if target.endswith("/") else target)
    entrypoint = re.search(r"^ENTRYPOINT (\[.*\])$", text, flags=re.MULTILINE)
    binary, *arguments = json.loads(entrypoint[1]) if entrypoint else [""]
    if binary != "/usr/bin/tensorflow_model_server":
        found.append("ENTRYPOINT isn't the server")
    flags, wrong = server_flags.parse(arguments)
    found += wrong
    for flag in ("model_config_file", "monitoring_config_file"):
        if flags.get(flag) not in copied:
            found.append(f"--{flag}={flags.get(flag)} isn't copied")
    check = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", text, flags=re.MULTILINE)
    if not check or json.loads(check[1])[:3] != ["bash", "/etc/tf_serving/available.sh", flags.get("rest_api_port")]:
        found.append("HEALTHCHECK doesn't ask for AVAILABLE")
    if sorted(re.findall(r"\d+", "".join(re.findall(r"^EXPOSE (.*)$", text, flags=re.MULTILINE)))) != sorted(
        [flags.get("port", ""), flags.get("rest_api_port", "")]
    ):
        found.append("EXPOSE names other ports than the flags")
    return found


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfile(name):
    assert hadolint(ROOT / "serving" / name) == ""
    assert problems((ROOT / "serving" / name).read_text()) == []


def test_scann_is_linked_for_avx2_and_fma():
    text = (ROOT / "serving" / "Dockerfile.scann").read_text()
    (options,) = re.findall(r'BUILD_OPTIONS="(.*)"', text)
    assert {"--config=release", "--copt=-mavx2", "--copt=-mfma"} <= set(options.split())
    # The op that the build looks for in the server is one of the installed ScaNN, whose models are served.
    (op,) = re.findall(r"grep -q '(.*)'", text)
    spec = importlib.util.find_spec("scann")
    assert spec is not None
    assert spec.origin is not None
    assert op.encode() in (Path(spec.origin).parent / "scann_ops" / "cc" / "_scann_ops.so").read_bytes()


def test_hadolint_finds_what_is_broken(tmp_path):
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM tensorflow/serving\nRUN cd /tmp && curl x | tar -x\n")
    found = hadolint(broken)
    for rule in ("DL3006", "DL3003", "DL4006"):
        assert rule in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("USER 1000:1000\n", "", "runs as root"),
        ("serving:2.16.1-gpu\n", "serving:latest-gpu\n", "isn't a pinned"),
        ("serving/models.config", "serving/model.config", "no such file"),
        ('"--xla_cpu_compilation_enabled=true", \\\n', "\\\n", "--xla_cpu_compilation_enabled=true is missing"),
        ('"--rest_api_port=8501"', '"--rest_api_port=8080"', "HEALTHCHECK"),
        ("EXPOSE 8500 8501", "EXPOSE 8500", "EXPOSE"),
        ("--monitoring_config_file=/etc/tf_serving/", "--monitoring_config_file=/etc/", "isn't copied"),
        ("/usr/bin/tensorflow_model_server", "/usr/bin/tf_serving_entrypoint.sh", "ENTRYPOINT"),
    ],
)
def test_own_rules_find_what_is_broken(old, new, expected):
    text = (ROOT / "serving" / "Dockerfile.gpu").read_text()
    assert old in text
    assert expected in "\n".join(problems(text.replace(old, new)))
