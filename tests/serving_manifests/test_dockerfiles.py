"""The Dockerfiles, by hadolint and by what hadolint can't know: TF Serving's flags and the files they name."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import zlib
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
        if not re.fullmatch(r"docker\.io/tensorflow/serving:2\.16\.\d+(-gpu|-devel)?(@sha256:[0-9a-f]{64})?", image)
    ]
    if not re.search(r"^USER [1-9]\d*:\d+$", text, flags=re.MULTILINE):
        found.append("runs as root")
    copied = set()
    server = text[text.index(" AS server") :]
    kept = re.findall(r"^COPY (?!--from|--chown=1000:1000).*", server, flags=re.MULTILINE)
    found += [f"{line}: not readable for user 1000 where the umask was 077" for line in kept]
    for sources, target in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.*) (\S+)$", text, flags=re.MULTILINE):
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
    if "sha256sum" not in text:
        found += [f"{download}: not checked" for download in re.findall(r"(?:curl|wget) [^&]*", text)]
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
        ("docker.io/tensorflow", "tensorflow", "isn't a pinned"),
        ("--chown=1000:1000 ${EXPORT}", "${EXPORT}", "not readable for user 1000"),
        ("--chown=1000:1000 serving/models", "serving/models", "not readable for user 1000"),
        ("EXPOSE 8500 8501", "RUN curl https://host.example/x | tar -x\nEXPOSE 8500 8501", "not checked"),
        ("--monitoring_config_file=/etc/tf_serving/", "--monitoring_config_file=/etc/", "isn't copied"),
        ("/usr/bin/tensorflow_model_server", "/usr/bin/tf_serving_entrypoint.sh", "ENTRYPOINT"),
    ],
)
def test_own_rules_find_what_is_broken(old, new, expected):
    text = (ROOT / "serving" / "Dockerfile.gpu").read_text()
    assert old in text
    assert expected in "\n".join(problems(text.replace(old, new)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository with a folder scann/ beside others, and the commit that holds them."""
    folder = tmp_path_factory.mktemp("research")
    (folder / "scann" / "scann").mkdir(parents=True)
    (folder / "scann" / "scann" / "BUILD.bazel").write_text("cc_library()\n")
    (folder / "other").mkdir()
    (folder / "other" / "large").write_text("x" * 1000)
    author = {"user.name": "a", "user.email": "a@host.example", "uploadpack.allowFilter": "true"}
    settings = [word for name, value in author.items() for word in ("-c", f"{name}={value}")]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "1.3.2"]):
        subprocess.run(["git", *settings, *command], cwd=folder, check=True)
    for name in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "config", name, "true"], cwd=folder, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return folder, commit.stdout.strip()


def download(repository: Path, commit: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Runs the download of Dockerfile.scann in a folder, from another repository."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "serving" / "Dockerfile.scann").read_text())
    (command,) = re.findall(r"^RUN (git init .*)$", text, flags=re.MULTILINE)
    target.mkdir()
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=target,
        env={**os.environ, "SCANN_COMMIT": commit, "SCANN_REPOSITORY": f"file://{repository}"},
        capture_output=True,
        text=True,
    )


def test_scann_is_fetched_by_the_hash_of_its_sources(repository, tmp_path):
    folder, commit = repository
    done = download(folder, commit, tmp_path / "research")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "research" / "scann" / "scann" / "BUILD.bazel").read_text() == "cc_library()\n"
    # The repository has hundreds of other projects.
    assert not (tmp_path / "research" / "other").exists()


def test_sources_that_were_changed_on_the_way_are_refused(repository, tmp_path):
    """What is stored under the file's hash has other content."""
    folder, commit = repository
    changed = tmp_path / "changed"
    subprocess.run(["git", "clone", "--quiet", "--no-local", folder, changed], check=True)
    for name in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "config", name, "true"], cwd=changed, check=True)
    objects = changed / ".git" / "objects"
    for pack in list(objects.glob("pack/*.pack")):
        packed = pack.read_bytes()
        pack.with_suffix(".idx").unlink()
        pack.unlink()
        subprocess.run(["git", "unpack-objects", "-q"], cwd=changed, input=packed, check=True)
    name = subprocess.run(
        ["git", "rev-parse", f"{commit}:scann/scann/BUILD.bazel"],
        cwd=changed,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    stored = objects / name[:2] / name[2:]
    stored.chmod(0o644)
    content = b"evil_library\n"
    stored.write_bytes(zlib.compress(b"blob %d\0" % len(content) + content))
    done = download(changed, commit, tmp_path / "research")
    assert done.returncode != 0
    assert not list((tmp_path / "research").glob("scann/scann/*"))
