"""The names, places and metadata of exports, and that they stand in one module."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export import layout
from tf_hqgnn.types import InputError

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = layout.ModelSettings(
    ExportConfig(default_k=7, device="cpu", jit_compile=True),
    RetrievalConfig(index="scann", num_leaves=9, num_leaves_to_search=4, reorder=55, target_recall=0.9),
)


def test_places_are_those_that_tensorflow_serving_looks_at(tmp_path):
    assert layout.version_path(tmp_path, layout.SCANN_MODEL, 12) == tmp_path / "hqgnn_scann" / "12"
    assert layout.model_dirs(tmp_path) == [tmp_path / "hqgnn", tmp_path / "hqgnn_scann"]
    assert layout.WARMUP_FILE.as_posix() == "assets.extra/tf_serving_warmup_requests"
    assert layout.MAX_WARMUP_RECORDS == 1000


def test_the_newest_version_is_that_of_the_highest_number(tmp_path):
    for version in (2, 10, 9):
        (tmp_path / "hqgnn" / str(version)).mkdir(parents=True)
    assert layout.newest_version(tmp_path, "hqgnn") == tmp_path / "hqgnn" / "10"
    with pytest.raises(InputError, match="holds no model: expected the EXPORT_DIR that `tf-hqgnn export`"):
        layout.newest_version(tmp_path, "hqgnn_scann")


def test_metadata_round_trip_with_every_setting(tmp_path):
    written = {"model": "hqgnn", "num_items": 3, **SETTINGS.to_json()}
    layout.write_metadata(tmp_path, written)
    assert json.loads((tmp_path / "assets.extra" / "metadata.json").read_text()) == {
        "model": "hqgnn",
        "num_items": 3,
        "export": {"default_k": 7, "device": "cpu", "jit_compile": True},
        "retrieval": {
            "index": "scann",
            "num_leaves": 9,
            "num_leaves_to_search": 4,
            "reorder": 55,
            "target_recall": 0.9,
        },
    }
    found = layout.read_metadata(tmp_path)
    assert found == written
    assert layout.settings_of(tmp_path, found) == SETTINGS


def test_metadata_of_version_0_1_have_no_settings(tmp_path):
    assert layout.settings_of(tmp_path, {"model": "hqgnn", "default_k": 10}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "metadata.json is missing: expected a version written by `tf-hqgnn export`"),
        ("{", r"metadata.json: the file is damaged \(.*\); export the run again"),
        ("[1]", r"metadata.json: the file is damaged \(expected a JSON object, got list\); export the run again"),
    ],
)
def test_metadata_that_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / "assets.extra").mkdir()
        (tmp_path / "assets.extra" / "metadata.json").write_text(content)
    with pytest.raises(InputError, match=message):
        layout.read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("retrieval", "num_trees", 3, "num_trees: Extra inputs are not permitted; if a newer release .*, upgrade"),
        ("export", "default_k", 0, "default_k: Input should be greater than or equal to 1"),
    ],
)
def test_settings_that_are_unknown_here_are_refused(tmp_path, section, name, value, message):
    metadata = SETTINGS.to_json()
    metadata[section][name] = value
    with pytest.raises(InputError, match=message):
        layout.settings_of(tmp_path, metadata)


def test_the_layout_needs_no_tensorflow():
    program = "import sys, tf_hqgnn.export.layout; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def _strings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("hqgnn_scann", "layout.py"),
        ("assets.extra", "layout.py"),
        ("tf_serving_warmup_requests", "layout.py"),
        ("variables/variables", "layout.py"),
        ("saved_model.pb", "layout.py"),
        ("Scann>", "loading.py"),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", "stored.py"),
        ("VARIABLE_VALUE", "stored.py"),
    ],
)
def test_a_name_stands_once(name, owner):
    """In prose, after a space, it may stand anywhere: help texts and messages say what a user sees."""
    files = [path for folder in ("tf_hqgnn", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    owners = {path.relative_to(ROOT).as_posix() for path in files for text in _strings(path) if text == name}
    assert owners == {f"tf_hqgnn/export/{owner}"}


def test_saved_models_are_loaded_in_one_place():
    """`tf.saved_model.load` and `import scann` elsewhere would forget the other, or what to say without it."""
    loads, imports = set(), set()
    for path in (ROOT / "tf_hqgnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "tf.saved_model.load":
                loads.add(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.Import) and any(alias.name == "scann" for alias in node.names):
                imports.add(path.relative_to(ROOT).as_posix())
    assert loads == {"tf_hqgnn/export/loading.py"}
    assert imports == set()
