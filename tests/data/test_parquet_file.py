"""A Parquet file must not run code (CVE-2023-47248), whoever reads it; every reader in a process of its own."""

import importlib
import sys

import pyarrow as pa
import pytest
from commands import run_fresh

from tf_hqgnn import startup
from tf_hqgnn.data.parquet_file import open_parquet
from tf_hqgnn.types import InputError

# Adds to a Parquet file a column that nobody asks for, of a type whose pickle runs a command. Writing runs nothing.
POISON = """
import os, sys
import pyarrow as pa, pyarrow.parquet as pq

class Evil(pa.PyExtensionType):
    def __init__(self):
        pa.PyExtensionType.__init__(self, pa.int64())
    def __reduce__(self):
        return os.system, (f"touch {sys.argv[1]}",)

for path in sys.argv[2:]:
    table = pq.read_table(path)
    values = pa.ExtensionArray.from_storage(Evil(), pa.array(range(len(table)), pa.int64()))
    pq.write_table(table.append_column("unused", values), path)
"""
READ = "import sys; from pathlib import Path; path = Path(sys.argv[1])\n"
READERS = {
    "log": "from tf_hqgnn.config import DataConfig\nfrom tf_hqgnn.data.loading import load_dataset\n"
    "load_dataset(DataConfig(path=str(path / 'log.parquet')), 1)",
    "profile of a log": "from tf_hqgnn.data.anomalies import id_types\nid_types(path / 'log.parquet', 'parquet')",
    "dataset": "from tf_hqgnn.data.split_dataset import SplitDataset\nSplitDataset.load(path / 'data')",
    "run directory": "from tf_hqgnn.runs.run_directory import RunDirectory\nRunDirectory.load(path / 'run')",
    "state of a warm start": "from tf_hqgnn.runs.trained_state import TrainedState\nTrainedState.load(path / 'state')",
    "catalogue": "import numpy as np\nfrom tf_hqgnn.tfx.catalogue import read_catalogue\n"
    "read_catalogue(path / 'catalogue', np.array([], object))",
    "users of batch": "from tf_hqgnn.beam.users import find_sources\n"
    "find_sources(str(path / 'users.parquet'), [str(path / 'users.parquet')], '')",
    "rows of batch": "from tf_hqgnn.beam.users import ReadUsers, Source\n"
    "list(ReadUsers().process(Source('parquet', 0, str(path / 'users.parquet'), 0, 1)))",
    "edges": "from tf_hqgnn.beam.graph_files import EDGE_COLUMNS, list_row_groups\n"
    "list_row_groups('--edges', str(path / 'edges.parquet'), EDGE_COLUMNS)",
    "edges of a worker": "from tf_hqgnn.beam.graph_files import RowGroup, read_edges\n"
    "list(read_edges(RowGroup(str(path / 'edges.parquet'), 0)))",
    "rows of a worker": "from tf_hqgnn.beam.graph_files import RowGroup, read_rows\n"
    "list(read_rows(RowGroup(str(path / 'rows.parquet'), 0)))",
}
COMMANDS = {
    "train": ["train", "configs/smoke.yaml", "--out", "{out}", "--set", "data.path={files}/log.parquet"],
    "add-items": ["add-items", "--export", "{export}", "--interactions", "{files}/log.parquet"],
    "evaluate": ["evaluate", "{files}/run"],
    "batch": ["batch", "--model", "{export}/hqgnn/1", "--users", "{files}/users.parquet", "--out", "{out}.parquet"],
    "a warm start": [
        *("train", "configs/smoke.yaml", "--out", "{out}", "--set", "data.path={files}/log.csv"),
        *("--set", "training.warm_start={files}/state"),
    ],
}
IS_SAFE = startup.is_safe(pa.__version__)


pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def export(tmp_path_factory, dataset, smoke_config):
    """A folder with `run` and `export` of a small training."""
    from tf_hqgnn.export.of_runs import export_run
    from tf_hqgnn.runs.run_directory import RunDirectory
    from tf_hqgnn.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    train(dataset, smoke_config, folder / "run")
    export_run(RunDirectory.load(folder / "run"), folder / "export")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory, export, dataset, log_path):
    """Everything that is ever read as Parquet, poisoned; and the file that would be touched."""
    import shutil

    import numpy as np
    import pyarrow.parquet as pq

    from tf_hqgnn.beam.graph_files import write_edges, write_rows
    from tf_hqgnn.runs.run_directory import RunDirectory
    from tf_hqgnn.runs.trained_state import TrainedState
    from tf_hqgnn.tfx.catalogue import write_catalogue

    folder = tmp_path_factory.mktemp("files")
    shutil.copy(log_path, folder / "log.csv")
    ids = pa.array(["a", "b"])
    pq.write_table(pa.table({"user_id": ids, "item_id": ids}), folder / "log.parquet")
    pq.write_table(pa.table({"user_id": ids}), folder / "users.parquet")
    write_edges(str(folder / "edges.parquet"), np.array([0, 1]), np.array([1, 0]))
    write_rows(str(folder / "rows.parquet"), np.arange(2), np.ones((2, 3), np.float32))
    dataset.save(folder / "data")
    write_catalogue(dataset, folder / "catalogue")
    # Without the manifest, by which a changed file would be noticed before it is read.
    shutil.copytree(export / "run", folder / "run", ignore=shutil.ignore_patterns("manifest.json"))
    TrainedState.from_run(RunDirectory.load(export / "run")).save(folder / "state")
    poisoned = sorted(folder.rglob("*.parquet"))
    done = run_fresh(folder / "ran", *poisoned, code=POISON)
    assert done.code == 0, done.err
    assert not (folder / "ran").exists()
    return folder


needs_hotfix = pytest.mark.skipif(IS_SAFE, reason="this pyarrow reads no pickled types")


@needs_hotfix
def test_the_files_do_run_code_where_nothing_forbids_it(files):
    """So that the tests below can fail."""
    done = run_fresh(files / "log.parquet", code="import sys, pyarrow.parquet as pq; pq.read_schema(sys.argv[1])")
    assert (files / "ran").exists(), done.err
    (files / "ran").unlink()


@needs_hotfix
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_code(files, run_command, reader):
    done = run_command.run(["python", "-c", READ + READERS[reader], files])
    assert not (files / "ran").exists()
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("tf_hqgnn.types.InputError: "), done.err
    assert "a column is of a pickled Python type, which can run any code of the file's author" in last


@needs_hotfix
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_code_and_each_refuses_in_one_line(files, export, run_command, command, tmp_path):
    places = {"files": files, "export": export / "export", "out": tmp_path / "out"}
    arguments = [argument.format(**places) for argument in COMMANDS[command]]
    done = run_command(*arguments)
    assert not (files / "ran").exists()
    assert done.code == 2, done.err
    lines = done.err.strip().splitlines()
    assert "a column is of a pickled Python type" in lines[-1]
    # A training says first what it has read.
    assert all("rows read" in line or line.startswith(("600 users", "batch:")) for line in lines[:-1]), done.err


@pytest.mark.parametrize("module", ["tf_hqgnn", "tf_hqgnn.types", "tf_hqgnn.beam.users", "tf_hqgnn.tfx.catalogue"])
def test_the_guard_is_there_before_any_module_can_touch_pyarrow(module):
    done = run_fresh(
        code="import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('pyarrow', 'tf_hqgnn.startup'): print(name)\n"
        f"sys.meta_path.insert(0, Watch())\nimport {module}\n"
        "import pyarrow; print(getattr(pyarrow, '_hotfix_installed', False))"
    )
    names = done.out.splitlines()
    assert names[0] == "tf_hqgnn.startup", done.err
    assert names[-1] == str(not IS_SAFE)


def test_without_the_hotfix_an_old_pyarrow_is_refused(monkeypatch):
    monkeypatch.setattr(startup.metadata, "version", lambda _name: "12.0.0")
    monkeypatch.setitem(sys.modules, "pyarrow_hotfix", None)
    with pytest.raises(ImportError, match=r"^pyarrow 12.0.0 runs code that it finds in Parquet files .*pyarrow 14.0.1"):
        startup.forbid_pickled_types()


@pytest.mark.parametrize("version", ["14.0.1", "21.0.0"])
def test_a_new_pyarrow_needs_no_hotfix(monkeypatch, version):
    monkeypatch.setattr(startup.metadata, "version", lambda _name: version)
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imports {name}"))
    startup.forbid_pickled_types()


def test_what_is_no_parquet_is_refused_by_its_name(tmp_path):
    (tmp_path / "x").write_text("text")
    with pytest.raises(InputError, match=r"^the log: not a Parquet file \(.*\); set data.format$"):
        open_parquet(tmp_path / "x", "the log", "set data.format")
