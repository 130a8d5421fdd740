"""Nothing that is read can run code: no module calls what could, and files that try are refused in one line."""

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tf_hqgnn.cli.commands import app
from tf_hqgnn.config import Config
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import InputError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("tf_hqgnn", "pipelines", "serving") for path in (ROOT / folder).rglob("*.py"))
# Modules that run what they read.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile", "runpy"}
# Functions that do, or that write outside of the folder that they are given.
CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load"}
METHODS = {"unpack_archive", "extractall", "extract"}
# Where a module is imported by a name that isn't written there: the folder of pipelines that the user names on the
# command line, and the modules beside a registry.
DYNAMIC_IMPORTS = {"tf_hqgnn/cli/pipeline_folder.py", "tf_hqgnn/lazy_names.py", "tf_hqgnn/types.py"}


def forbidden(source, may_import=False):
    """What in a module's source can run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name.rpartition(".")[2] in METHODS:
                yield name
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("allow_pickle", "shell") and not is_off:
                    yield f"{name}({keyword.arg})"
            imports = name.rpartition(".")[2] in ("import_module", "__import__")
            if imports and not may_import and not isinstance(node.args[0], ast.Constant):
                yield name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_runs_what_it_reads(path):
    may_import = path.relative_to(ROOT).as_posix() in DYNAMIC_IMPORTS
    assert list(forbidden(path.read_text(encoding="utf-8"), may_import)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "importlib.import_module(name)",
        "archive.extractall(folder)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert len(list(forbidden(source))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch ran']",
        "seed: !!python/object/apply:os.system ['touch ran']",
        "data: !!python/object/new:subprocess.Popen [['touch', 'ran']]",
        "model: {encoder: !!python/name:os.system ''}",
    ],
)
def test_yaml_that_names_python_objects(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml: not valid YAML: [^\n]*python"):
        Config.load(tmp_path / "config.yaml")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("model", "encoder"),
        ("loss", "name"),
        ("propagation", "solver"),
        ("quantization", "estimator"),
        ("retrieval", "index"),
        ("data", "format"),
    ],
)
def test_names_in_settings_are_looked_up_and_never_imported(tmp_path, monkeypatch, section, name):
    """A run's config.yaml may be a stranger's."""
    (tmp_path / "attack.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for value in ("attack", "attack:run", "attack.run", "../attack", "os.system"):
        with pytest.raises(InputError, match=r"expected one of [^\n]*$"):
            Config().with_values({f"{section}.{name}": value})
    assert not (tmp_path / "ran").exists()


def test_yaml_whose_aliases_multiply_is_one_short_line(tmp_path):
    """Ten names for nine each: a billion in all, if they were written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    for last in ("data: {path: *a9}", "evaluation: {k: *a9}", "tune: {ranges: {loss.margin: {choices: *a9}}}"):
        (tmp_path / "bomb.yaml").write_text("\n".join([*lines, last]))
        with pytest.raises(InputError) as error:
            Config.load(tmp_path / "bomb.yaml")
        assert len(str(error.value)) < 20_000
        assert "\n" not in str(error.value)


def test_a_run_whose_files_hold_pickles(tmp_path):
    """What NumPy would run with `allow_pickle` is refused, in whatever file of a run it stands."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{}")
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    (tmp_path / "run" / "embeddings.npz").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match=r"embeddings\.npz: the file is damaged"):
        RunDirectory.load(tmp_path / "run")


@pytest.mark.parametrize("command", ["recommend", "batch", "serve", "add-items"])
def test_the_help_says_that_a_model_is_a_program(command):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "A model is a program" in done.output


def test_every_promise_names_tests_that_are_there():
    table = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 20
    for row in rows:
        names = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)`", row.rpartition(" | ")[2])
        assert names, row
        for name in names:
            path = name if name.startswith("tests/") else f"tests/serving/{name}"
            assert (ROOT / path).is_file(), row
