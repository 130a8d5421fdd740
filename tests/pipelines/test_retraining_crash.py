"""A pipeline killed (SIGKILL) before every component and at every moment of a push: one run, and what a server sees."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_components import COMPONENTS

from pipelines.run_local import Layout
from pipelines.run_record import RunRecord
from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.versions import versions
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx.model_store import read_pointer

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
PUSH_MOMENTS = ("between the renames", "before the pointer", "after the pointer")
SETTINGS = (
    "model.embedding_dim=16",
    "training.batch_size=256",
    "training.max_epochs=4",
    "training.steps_per_execution=4",
    "training.jit_compile=false",
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_log(generate_log(150, 80, 3000, seed=5), folder / "log.csv")
    return Layout(folder / "out")


@pytest.fixture(scope="module")
def run(layout):
    """Runs the pipeline until it is killed, or to its end."""
    command = [sys.executable, str(Path(__file__).with_name("killed_runs.py"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    arguments = ["--data", str(layout.out.parent / "log.csv"), "--out", str(layout.out), "--min-lift", "0"]
    arguments += [part for setting in SETTINGS for part in ("--set", setting)]

    def run(kill=None):
        process.stdin.write(json.dumps({"arguments": arguments, "kill": kill}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_served(layout):
    """Every version that a server sees is the whole model, and the pointer names versions and a state that are there.

    Returns:
      The versions by model.
    """
    seen = {name: versions(layout.serving / name) for name in MODEL_NAMES}
    if any(seen.values()):
        record = RunRecord.latest(layout.metadata)
        trained = {"hqgnn": ("Trainer", "model"), "hqgnn_scann": ("IndexGen", "index")}
        for name, numbers in seen.items():
            source = files(record.uri(*trained[name]) / "Format-Serving")
            for number in numbers:
                served = files(layout.serving / name / str(number))
                # What the push adds: where the version comes from.
                assert served.pop(Path("assets.extra/push.json"))
                assert served == source
    pointer = read_pointer(layout.model_store)
    if pointer is not None:
        assert all(Path(path).is_dir() for path in pointer["models"].values())
        TrainedState.load(Path(pointer["state"]))
    return seen


# In order: each goes on from where the one before was killed, so that all of them together cost one run.
@pytest.mark.parametrize("number", range(len(COMPONENTS)), ids=COMPONENTS)
def test_killed_before_a_component(run, layout, number):
    answer = run(COMPONENTS[number])
    assert answer["signal"] == signal.SIGKILL, answer["output"]
    assert check_served(layout) == {"hqgnn": [], "hqgnn_scann": []}
    assert read_pointer(layout.model_store) is None
    if number:
        # What was done before is not done again.
        record = RunRecord.latest(layout.metadata)
        assert COMPONENTS[number - 1] in record.states
        assert record.states[COMPONENTS[0]] == ("COMPLETE" if number == 1 else "CACHED")


@pytest.mark.parametrize("moment", PUSH_MOMENTS)
def test_killed_in_the_push(run, layout, moment):
    before = check_served(layout)
    answer = run(moment)
    assert answer["signal"] == signal.SIGKILL, answer["output"]
    after = check_served(layout)
    added = [len(after[name]) - len(before[name]) for name in MODEL_NAMES]
    # The second run completes the push of the first, and the third finds it done.
    assert sum(added) == {"between the renames": 1, "before the pointer": 1, "after the pointer": 0}[moment]
    assert (read_pointer(layout.model_store) is None) == (moment != "after the pointer")


def test_the_run_after_all_that_completes_and_pushes(run, layout):
    answer = run()
    assert answer["code"] == 0, answer["output"]
    served = check_served(layout)
    # However often it was killed, it is one push.
    assert served == {"hqgnn": [1], "hqgnn_scann": [1]}
    newest = {name: numbers[-1] for name, numbers in served.items()}
    assert set(newest.values()) == {read_pointer(layout.model_store)["version"]}
    # Nothing of the killed pushes is left, neither in the folders that a server watches nor in the model store.
    assert not [
        path for name in MODEL_NAMES for path in (layout.serving / name).iterdir() if path.name.startswith(".tmp-")
    ]
    kept = {path.name for path in layout.model_store.iterdir()}
    assert kept == {".lock", "latest_blessed.json", f"state-{newest['hqgnn']}"}
    record = RunRecord.latest(layout.metadata)
    assert set(record.states) == set(COMPONENTS)
    assert set(record.states.values()) == {"CACHED", "COMPLETE"}
