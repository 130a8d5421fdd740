"""What a user can get wrong, and how a run ends: one line and exit code 2, or nothing left behind."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import run_local
from tf_hqgnn.config import DataConfig
from tf_hqgnn.data import named_inputs
from tf_hqgnn.tfx.model_store import write_pointer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--out'; --help lists the options"),
        (["--out", "{tmp}", "--colour", "red"], "No such option: --colour"),
        (["--out", "{tmp}"], "no log to read; give --data FILE, or data.path in the config"),
        (["--out", "{tmp}", "--data", "{tmp}/no.csv"], "{tmp}/no.csv: no such file; expected a file of interactions"),
        (["--out", "{tmp}", "--data", "{tmp}"], "{tmp}: is a directory"),
        (["--out", "{tmp}", "--data", "s3://b/log.csv"], "--data s3://b/log.csv: expected a path of this machine"),
        (["--out", "{tmp}", "--set", "data.path=gs://b/log.csv"], "data.path gs://b/log.csv: expected a path of this"),
        (
            ["--out", "{tmp}", "--data", "{tmp}/{{SPAN}}.csv"],
            ": no span matches; expected a file with",
        ),
        (["--out", "{tmp}", "--data", "{log}", "--set", "data.num_spans=2"], "has no {{SPAN}}; write {{SPAN}} where"),
        (
            ["--out", "{tmp}", "--data", "{log}", "--min-slice-users", "1.5"],
            "Invalid value for '--min-slice-users': ",
        ),
        (["--out", "{tmp}", "--data", "{log}", "--items", "{tmp}/no"], "{tmp}/no: no such file; expected a file"),
        (["--out", "{log}", "--data", "{log}"], "--out {log}: File exists; expected a folder that can be written"),
        (["--out", "{tmp}", "--data", "{log}", "--config", "{tmp}/no.yaml"], "config {tmp}/no.yaml: No such file"),
        (["--out", "{tmp}", "--data", "{log}", "--set", "training.epochs=3"], "unknown setting training.epochs"),
        (["--out", "{tmp}", "--data", "{log}", "--min-ndcg", "20"], "--min-ndcg 20.0: input should be less than or"),
        (
            ["--out", "{tmp}", "--data", "{log}", "--min-lift", "much"],
            "Invalid value for '--min-lift'",
        ),
        (
            ["--out", "{tmp}", "--data", "{log}", "--set", "data.train_path=a", "--set", "data.test_path=b"],
            "--data and data.train_path both name a log; give one of them",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, message, log_path, tmp_path, capsys):
    values = {"tmp": tmp_path, "log": log_path}
    assert run_local.main([argument.format(**values) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message.format(**values) in captured.err
    assert captured.out == ""


def test_a_folder_in_use_is_refused(log_path, tmp_path, capsys):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_local.main(["--data", str(log_path), "--out", str(tmp_path)]) == 2
    assert "another run is using it; wait for it, or choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["{", '"'])
def test_a_broken_pointer_is_told(log_path, tmp_path, capsys, broken):
    (tmp_path / "model_store").mkdir()
    (tmp_path / "model_store" / "latest_blessed.json").write_text(broken)
    assert run_local.main(["--data", str(log_path), "--out", str(tmp_path)]) == 2
    assert "latest_blessed.json: the file is damaged" in capsys.readouterr().err


def test_bad_rows_stop_the_run_with_the_line_that_the_reader_gives(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\nu,i\n,j\nu,k\n")
    assert run_local.main(["--data", str(log), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "1 bad row, 0 allowed" in captured.err
    assert "line 3" in captured.err
    assert captured.out == "[1/10] InteractionGen ... \n"
    assert not (tmp_path / "out" / "serving").exists()


def test_the_fingerprint_follows_the_content_of_every_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)

    def fingerprint(**paths):
        return named_inputs.fingerprint(DataConfig(**{name: str(tmp_path / path) for name, path in paths.items()}))

    first = fingerprint(path="a", items_path="b")
    assert first == fingerprint(path="a", items_path="b")
    assert len({first, fingerprint(path="a"), fingerprint(path="b", items_path="a")}) == 3
    for name in ("1.csv", "2.csv"):
        before = fingerprint(path="{SPAN}.csv") if name != "1.csv" else first
        (tmp_path / name).write_text(name)
        assert fingerprint(path="{SPAN}.csv") != before
    (tmp_path / "b").write_text("c")
    assert fingerprint(path="a", items_path="b") != first


class TestStoreState:
    """The word that lets a cached verdict hold, or not."""

    @pytest.fixture
    def layout(self, tmp_path):
        return run_local.Layout(tmp_path)

    def _push(self, layout, state, version=1):
        path = layout.serving / "hqgnn" / str(version)
        path.mkdir(parents=True)
        write_pointer(layout.model_store, {"version": version, "models": {"hqgnn": str(path)}, "store_state": state})

    def test_a_repetition_keeps_it(self, layout):
        state = run_local.store_state(layout, "a")
        assert run_local.store_state(layout, "a") == state
        self._push(layout, state)
        assert run_local.store_state(layout, "a") == state

    def test_other_inputs_and_another_blessed_model_change_it(self, layout):
        state = run_local.store_state(layout, "a")
        self._push(layout, state)
        other = run_local.store_state(layout, "b")
        assert other != state
        self._push(layout, other, version=2)
        assert run_local.store_state(layout, "a") not in (state, other)

    def test_a_deleted_version_changes_it(self, layout):
        state = run_local.store_state(layout, "a")
        self._push(layout, state)
        (layout.serving / "hqgnn" / "1").rmdir()
        assert run_local.store_state(layout, "a") != state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_behind(log_path, tmp_path, number):
    command = [sys.executable, "-m", "pipelines.run_local", "--data", str(log_path), "--out", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # Only the process itself gets the signal: the children are its own business.
    line = process.stdout.readline() if number == signal.SIGINT else process.stdout.read(1)
    assert line.startswith("[")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.strip().endswith("the same command goes on where it can")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
