"""benchmarks/gpu, the whole way: programs made here, run by jaxlib in an environment without TensorFlow."""

import csv
import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.cells import ROOT
from benchmarks.gpu.__main__ import make
from benchmarks.gpu.maker import drawing
from benchmarks.gpu.maker.graphs import generated, save
from benchmarks.gpu.maker.tracing import trace
from benchmarks.gpu.report import markdown
from benchmarks.gpu.runner import check_search
from benchmarks.gpu.runner.draws import Draw, draw, draw_rows
from benchmarks.gpu.runner.graph_file import read_graph
from benchmarks.gpu.runner.manifest import ProgramsError, read_manifest
from benchmarks.gpu.runner.session import Options, Session
from benchmarks.gpu.runner.table import Table
from benchmarks.gpu.runner.timing import measure
from benchmarks.gpu.runner.wrong import WrongAnswer, compare

pytestmark = pytest.mark.engines

RUN = ROOT / "benchmarks" / "gpu" / "run.py"
PYTHON = ROOT / ".venv-gpu" / "bin" / "python"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs") / "tiny"
    make(folder, "tiny")
    return folder


def run(folder, out, *arguments, python=PYTHON):
    command = [str(python), str(RUN), str(folder), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["program"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "table.csv"
    process = run(programs, out)
    assert process.returncode == 0, process.stderr
    return process.stdout, rows_of(out)


def test_every_program_runs_and_its_answer_is_right(programs, finished):
    printed, rows = finished
    manifest = read_manifest(programs)
    for program in manifest.programs:
        row = rows[program.name]
        assert (row["status"], row["note"]) == ("ok", ""), program.name
        assert int(row["calls"]) >= 20
        assert float(row["p95_ms"]) >= float(row["median_ms"]) > 0
        assert program.name in printed
        if program.expected is not None:
            assert row["check"] == "TensorFlow's answer"
        elif program.kind == "search":
            assert row["check"].startswith("NumPy")
        if program.kind != "copy":
            limit = float(row["memory_limit_ms"]) / float(row["median_ms"])
            assert limit == pytest.approx(float(row["memory_share"]), rel=1e-2)
    assert {program.kind for program in manifest.programs} == {"copy", "search", "training", "propagation"}
    assert {row["tensorflow"] for row in rows.values() if row["kind"] != "torch"} == {tf.__version__}
    assert "cores" in next(iter(rows.values()))["device"]


def test_the_table_of_the_readme_has_every_time(finished):
    rows = list(finished[1].values())
    text = markdown(rows)
    assert text.count("\n| ") == 1 + sum(bool(row["median_ms"]) for row in rows)
    assert "(no GPU)" in text
    assert markdown([{**rows[1], "calls": "3", "status": "wrong answer"}]).count("(3 calls) **wrong answer**") == 1


def test_every_program_has_the_form_in_which_a_plugin_gets_it(programs):
    """On a CPU jaxlib compiles what it reads; to a GPU's plugin it hands StableHLO of a stable version."""
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jaxlib import xla_client
from jaxlib.mlir import ir
from runner.manifest import read_manifest
manifest = read_manifest(Path(sys.argv[2]))
mlir = xla_client._xla.mlir
for file in [entry.file for entry in (*manifest.programs, *manifest.groups.values())]:
    with ir.Context():
        module = mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(manifest.hlo(file)))
        assert mlir.serialize_portable_artifact(module, "1.0.0"), file
    print(file)
"""
    command = [str(PYTHON), "-c", code, str(RUN.parent), str(programs)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) == len(list(programs.glob("*.hlo.gz")))


def test_nothing_large_travels(programs):
    assert sum(path.stat().st_size for path in programs.iterdir()) < 2 * 2**20
    for path in programs.glob("*.hlo.gz"):
        assert len(gzip.decompress(path.read_bytes())) < 2**20, path


def test_tables_of_a_training_step_share_the_memory_of_the_next(programs):
    steps = [program for program in read_manifest(programs).programs if program.kind == "training"]
    for step in steps:
        donated = {step.inputs[output.donated].name for output in step.outputs if output.donated is not None}
        assert {"user_table", "item_table", "m/user_table", "v/item_table", "iteration"} <= donated


@pytest.fixture
def changed(programs, tmp_path):
    """A copy of the folder, and a function that changes its list."""
    folder = tmp_path / "changed"
    shutil.copytree(programs, folder)

    def change(**values):
        path = folder / "programs.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return folder, change


def test_a_damaged_program_becomes_a_row(changed, tmp_path):
    folder, _ = changed
    names = {program.name: program for program in read_manifest(folder).programs if program.expected}
    one, two, three, four, *_ = [name for name in names if name.startswith("search")]
    (folder / names[one].file).write_bytes(b"damaged")
    (folder / names[two].file).write_bytes(gzip.compress(b"no program"))
    (folder / names[three].file).unlink()
    process = run(folder, tmp_path / "table.csv", "--only", "batch 3", "--no-torch")
    rows = rows_of(tmp_path / "table.csv")
    assert process.returncode == 0
    assert [rows[name]["status"] for name in (one, two, three, four)] == ["failed", "failed", "failed", "ok"]
    assert "can't be read" in rows[one]["note"]
    assert names[three].file in rows[three]["note"]


def test_a_wrong_answer_is_named(changed, tmp_path):
    folder, _ = changed
    program = next(program for program in read_manifest(folder).programs if program.name.startswith("search 8 x 8"))
    with np.load(folder / program.expected) as file:
        expected = dict(file)
    expected["output_0"] *= 1.01
    np.savez_compressed(folder / program.expected, **expected)
    run(folder, tmp_path / "table.csv", "--only", program.name, "--no-torch")
    row = rows_of(tmp_path / "table.csv")[program.name]
    assert row["status"] == "wrong answer"
    assert "is off by" in row["note"]
    assert row["median_ms"] == ""


def test_programs_of_another_tensorflow_are_run_with_a_warning(changed, tmp_path):
    folder, change = changed
    change(tensorflow="2.99.0")
    process = run(folder, tmp_path / "table.csv", "--only", "copy", "--no-torch")
    assert process.returncode == 0
    assert "warning: these programs are TensorFlow 2.99.0's" in process.stdout
    assert [row["tensorflow"] for row in rows_of(tmp_path / "table.csv").values()] == ["2.99.0"]


def test_what_has_no_time_or_memory_left_becomes_a_row(programs, tmp_path):
    process = run(programs, tmp_path / "time.csv", "--seconds", "0.5", "--no-torch")
    rows = rows_of(tmp_path / "time.csv").values()
    assert process.returncode == 0
    assert len(rows) == len(read_manifest(programs).programs)
    assert {row["status"] for row in rows} == {"not enough time"}
    run(programs, tmp_path / "memory.csv", "--only", "batch 32", "--memory-gib", "0.001", "--no-torch")
    rows = rows_of(tmp_path / "memory.csv").values()
    assert {row["status"] for row in rows} == {"not enough memory"}
    assert all("it needs" in row["note"] for row in rows)


def refused(process):
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1, process.stderr
    return process.stderr


def test_mistakes_are_told_in_a_line(changed, tmp_path):
    folder, change = changed
    out = tmp_path / "table.csv"
    assert "there is no folder" in refused(run(tmp_path / "nothing", out))
    assert "is not a folder of programs" in refused(run(tmp_path, out))
    assert "no program's name holds 'nonsense'" in refused(run(folder, out, "--only", "nonsense"))
    assert "jaxlib can't be imported" in refused(run(folder, out, "--only", "copy", python=sys.executable))
    change(format=2)
    assert "has the format 2, this run.py reads format 1" in refused(run(folder, out))
    (folder / "programs.json").write_text("[")
    assert "is damaged" in refused(run(folder, out))


def test_an_interrupted_run_leaves_a_table(programs, tmp_path):
    out = tmp_path / "table.csv"
    command = [str(PYTHON), str(RUN), str(programs), "--out", str(out), "--no-torch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("search"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "has the rows so far" in errors
    assert 2 <= len(rows_of(out)) < len(read_manifest(programs).programs)


_FAILING = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from runner.device import JaxlibDevice
from runner.manifest import read_manifest
from runner.work import Limits, Work

class Failing:
    '''A device of which the calls from one on fail, until it is mended.'''
    def __init__(self, device):
        self._device, self.info, self.fails = device, device.info, False
    def compile(self, hlo):
        compiled = self._device.compile(hlo)
        def call(arguments):
            if self.fails:
                raise RuntimeError("INTERNAL: the device is gone")
            return compiled(arguments)
        call.needed_bytes = compiled.needed_bytes
        return call
    def put(self, values):
        return self._device.put(values)
    def fetch(self, array):
        if self.fails:
            raise RuntimeError("INTERNAL: the device is gone")
        return self._device.fetch(array)
    def wait(self, arrays):
        self._device.wait(arrays)
    def free_bytes(self):
        return self._device.free_bytes()

manifest = read_manifest(Path(sys.argv[2]))
device = Failing(JaxlibDevice())
work = Work(device, manifest)
rows = []
for number, program in enumerate(manifest.programs[1:4]):
    device.fails = number == 1
    rows.append([work.run(program.name, Limits(30.0)), work.is_usable()])
print(json.dumps(rows))
"""


def test_a_device_that_fails_in_the_middle_costs_a_row(programs):
    command = [str(PYTHON), "-c", _FAILING, str(RUN.parent), str(programs)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (first, before), (failed, during), (last, after) = json.loads(output.splitlines()[-1])
    assert (first["status"], failed["status"], last["status"]) == ("ok", "failed", "ok")
    assert failed["note"] == "RuntimeError: INTERNAL: the device is gone"
    assert (before, during, after) == (True, False, True)


_WORKER = """
import json, os, signal, sys, time
print(json.dumps({"device": {"platform": "cpu", "name": "a machine", "driver": "1.2", "library": "none"}}), flush=True)
for line in sys.stdin:
    name = json.loads(line)["job"]
    if "float32" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "8 x 8" in name:
        time.sleep(60)
    if "4 x 8 bits," in name and "popcount" not in name:
        print("not json", flush=True)
    usable = "2 x 8" not in name
    row = {"status": "ok", "median_ms": 2.0, "p95_ms": 3.0, "calls": 20}
    print(json.dumps({"row": row, "usable": usable}), flush=True)
"""


def test_a_process_that_dies_or_hangs_is_replaced(programs, tmp_path):
    (tmp_path / "worker.py").write_text(_WORKER)
    lines, started = [], []

    def command(kind):
        started.append(kind)
        return [sys.executable, str(tmp_path / "worker.py")]

    options = Options(seconds=60.0, program_seconds=0.5, only="batch 3", with_torch=False)
    manifest = read_manifest(programs)
    table = Table(tmp_path / "table.csv")
    session = Session(manifest, table, options, command, lines.append, grace_seconds=0.5)
    session.run()
    table.close()
    rows = rows_of(tmp_path / "table.csv")

    def note(text):
        return next(row["note"] for name, row in rows.items() if text in name)

    assert "killed, perhaps since the machine had no memory left" in note("float32")
    assert "took longer than" in note("8 x 8")
    assert "is no JSON" in note("4 x 8 bits, 70")
    assert {row["status"] for name, row in rows.items() if "popcount" in name} == {"ok"}
    # One for the first, one after each of the four that failed; the last failed at the end of its kind.
    assert len(started) >= 5
    assert any("the device has failed" in line for line in lines)
    assert any("a machine, driver 1.2, none" in line for line in lines)


@pytest.mark.parametrize(
    "spec",
    [
        Draw("normal", 3, (5000, 7), "float32", 0.1),
        Draw("positive", 4, (50,), "float32", 2.0),
        Draw("bytes", 5, (50, 4), "uint8"),
        Draw("bits", 6, (50, 4), "uint8"),
        Draw("words", 7, (9000,), "int64"),
        Draw("scales", 8, (50,), "float16"),
        Draw("zeros", 9, (), "int64"),
    ],
    ids=lambda spec: spec.kind,
)
def test_the_device_draws_what_the_host_draws(spec):
    compiled = tf.function(lambda zero: drawing.draw(spec, zero), jit_compile=True)
    drawn = compiled(tf.constant(0, tf.uint32)).numpy()
    whole = draw(spec)
    assert whole.dtype == drawn.dtype == spec.dtype
    np.testing.assert_array_equal(drawn, whole)
    if spec.shape:
        rows = np.array([[3, 1], [40, 3]])
        np.testing.assert_array_equal(draw_rows(spec, rows), whole[rows])
    if spec.kind == "normal":
        assert whole.std() == pytest.approx(0.1, rel=0.02)


def test_graphs_come_back_from_their_file(tmp_path):
    graph = generated(40, 30, 300)
    save(graph, tmp_path / "graph.npz")
    arrays = read_graph(tmp_path / "graph.npz")
    adjacency = graph.normalized_adjacency().to_sparse_tensor()
    np.testing.assert_array_equal(np.stack([arrays["rows"], arrays["columns"]], axis=1), adjacency.indices)
    values = arrays["factor"][arrays["rows"]] * arrays["factor"][arrays["columns"]]
    np.testing.assert_allclose(values, adjacency.values, rtol=1e-5)


class Answers:
    """Stands for a search: by the reference itself, changed by `spoil`."""

    def __init__(self, program, spoil):
        self.program, self._spoil = program, spoil
        self._listed = np.full((program.settings["batch"], 1), -1)

    def set(self, name, values):
        assert name == "excluded"
        self._listed = values

    def answer(self):
        settings = self.program.settings
        score_of, everything = check_search.scorer(self.program), np.arange(settings["num_items"])
        scores = np.array([score_of(query, everything) for query in range(settings["batch"])])
        for query, listed in enumerate(self._listed):
            scores[query, listed[listed >= 0]] = -np.inf
        items = np.argsort(-scores, axis=1, kind="stable")[:, : settings["k"]]
        scores = np.take_along_axis(scores, items, axis=1)
        scores, items = self._spoil(scores.astype(np.float32), items.astype(np.int32), self._listed)
        return {"output_0": scores, "output_1": items}


def _leave_out(scores, items, _listed):
    return scores[:, 3:], items[:, 3:]


def _misjudge(scores, items, _listed):
    return scores * np.float32(1.001), items


def _return_excluded(scores, items, listed):
    if (listed >= 0).any():
        items[:, -1] = listed[:, 0]
    return scores, items


def _repeat(scores, items, _listed):
    items[:, 1] = items[:, 0]
    return scores, items


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_leave_out, "is better than the last"),
        (_misjudge, "scores of query"),
        (_return_excluded, "an excluded item came back"),
        (_repeat, "an item came back twice"),
        (lambda scores, items, _listed: (scores[:, ::-1], items), "descending"),
        (lambda scores, items, _listed: (scores, items - 10**6), "out of range"),
    ],
)
def test_a_search_that_is_wrong_is_found_out(programs, spoil, message):
    program = next(p for p in read_manifest(programs).programs if p.name.startswith("search 8 x 8") and not p.expected)
    assert "NumPy" in check_search.check(Answers(program, lambda scores, items, _listed: (scores, items)))
    with pytest.raises(WrongAnswer, match=message):
        check_search.check(Answers(program, spoil))


@pytest.mark.parametrize(
    ("got", "message"),
    [([1.0, 2.0, 3.0], "shape"), ([1.0, 2.1], "off by 0.1"), ([1.0, np.nan], "finite"), ([1, 3], "differ")],
)
def test_answers_that_differ_are_told_apart(got, message):
    wanted = np.array([1.0, 2.0] if message != "differ" else [1, 2])
    compare("it", wanted + 0.0, wanted, 1e-3)
    compare("it", wanted * (1 if message == "differ" else 1.0005), wanted, 1e-3)
    with pytest.raises(WrongAnswer, match=message):
        compare("it", np.array(got), wanted, 1e-3)


def test_what_a_program_reads_must_have_a_name():
    variable = tf.Variable([1.0, 2.0])
    with pytest.raises(ValueError, match="which has no name"):
        trace(lambda x: x + variable, [tf.TensorSpec([2])])
    traced = trace(lambda x: variable.assign_add(x), [tf.TensorSpec([2])], {"total": variable})
    assert traced.captured == ["total"]
    assert 1 in traced.donated


def test_calls_stop_at_the_deadline():
    assert measure(lambda: time.sleep(0.02), time.monotonic()) is None
    times = measure(lambda: None, time.monotonic() + 5, enough_seconds=0.0)
    assert len(times.seconds) == 20


def test_a_source_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="a draw must be one of"):
        Draw.from_json({"kind": "dice"})
    with pytest.raises(ProgramsError, match="there is no folder"):
        read_manifest(Path("/nowhere"))
