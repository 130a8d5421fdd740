"""What `docker build` is sent of a checkout in use: what the Dockerfiles copy, and none of the user's own files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from build_context import sent

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = ("pipelines/Dockerfile", "serving/Dockerfile.gpu", "serving/Dockerfile.scann")
SECRETS = (".env", ".envrc", "id_rsa", "service-account.json", "key.pem", ".netrc", "token", "log.csv", "notes.txt")
OWN_FOLDERS = ("demo/serving", "runs/mine", "data", ".venv/lib", ".git/objects", ".aws", "bench-results", "secrets")
# Folders of the repository into which somebody may put such a file.
SHARED_FOLDERS = (
    "",
    "configs",
    "pipelines",
    "pipelines/kubernetes",
    "serving",
    "supply_chain",
    "tf_hqgnn/data",
    "tests",
)


@pytest.fixture(scope="module")
def used(checkout, tmp_path_factory):
    """The repository's files, with keys, logs and models among them."""
    folder = tmp_path_factory.mktemp("used")
    shutil.copytree(checkout, folder, dirs_exist_ok=True)
    for place in (*OWN_FOLDERS, *SHARED_FOLDERS):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in SECRETS:
            (folder / place / name).write_text("secret")
    for name in (
        "serving/models.config.previous",
        "tf_hqgnn/__pycache__/types.cpython-311.pyc",
        "configs/mine.yaml.orig",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    for model in ("hqgnn", "hqgnn_scann"):
        version = folder / "export" / model / "1"
        (version / "variables").mkdir(parents=True)
        (version / "saved_model.pb").write_text("model")
        (version / "variables" / "variables.index").write_text("model")
    return folder


def copied(dockerfile: str) -> list[str]:
    """The sources of COPY that come from the build's context."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / dockerfile).read_text()).replace("${EXPORT}", "export")
    lines = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", text, flags=re.MULTILINE)
    return [source for line in lines for source in line.split()]


def test_nothing_of_the_user_is_sent(used):
    files = sent(used)
    assert not [file for file in files if Path(file).name in SECRETS or (used / file).read_bytes() == b"secret"]
    assert not [file for file in files if file.startswith(OWN_FOLDERS)]
    assert sum((used / file).stat().st_size for file in files) < 5_000_000


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_sent_whole(used, dockerfile):
    files = sent(used)
    for source in copied(dockerfile):
        assert [file for file in files if file == source or file.startswith(f"{source}/")], source
    if dockerfile == "pipelines/Dockerfile":
        package = {file.relative_to(used).as_posix() for file in (used / "tf_hqgnn").rglob("*.py")}
        assert package <= files, "a folder that .dockerignore doesn't name"
        assert {"tf_hqgnn/py.typed", "pipelines/Dockerfile", "pipelines/kubernetes/volumes.yaml"} <= files


def test_the_models_of_an_export_are_sent(used):
    assert {"export/hqgnn/1/saved_model.pb", "export/hqgnn/1/variables/variables.index"} <= sent(used)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("a", {"b.py", "c/a", "c/d/e.py"}),
        ("**", set()),
        ("**\n!c", {"c/a", "c/d/e.py"}),
        ("**\n!c/*.py", set()),
        ("**\n!c/**/*.py", set()),
        ("**\n!c/d/*.py", {"c/d/e.py"}),
        ("**\n!**/*.py", {"b.py"}),
        ("c\n!c/**/*.py", {"b.py", "a/f.py"}),
        ("*\n!a\na/f.py", set()),
        ("c/d", {"b.py", "c/a", "a/f.py"}),
        ("**/a", {"b.py", "c/d/e.py"}),
        ("# c\n\nc/?", {"b.py", "a/f.py"}),
    ],
)
def test_the_rules_are_docker_s(tmp_path, rules, expected):
    """Each was seen with buildah, which uses docker's own matcher."""
    for name in ("a/f.py", "b.py", "c/a", "c/d/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".dockerignore").write_text(rules)
    assert sent(tmp_path) - {".dockerignore"} == expected
