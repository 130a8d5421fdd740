"""The pipeline day after day: spans, a warm start, what stops a day's log, and a worse model that is refused."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import run_local
from pipelines.run_record import RunRecord
from tf_hqgnn.data.synthetic import generate_log
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.versions import versions
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.model_store import read_pointer

pytestmark = pytest.mark.long
SETTINGS = (
    "auto.race=false",
    "model.embedding_dim=16",
    "data.split.method=temporal",
    "data.num_spans=2",
    "training.batch_size=256",
    "training.max_epochs=8",
    "training.patience=8",
    "training.evaluate_every=1",
    "training.warm_epochs=2",
    "training.steps_per_execution=4",
    "training.jit_compile=false",
    "propagation.search=false",
)
# Overall anything goes, so that what is refused is refused for a slice.
LENIENT = ("--min-lift", "0", "--max-drop", "1", "--min-slice-ann-recall", "0")


class Days:
    """A log of days under one `--out`."""

    def __init__(self, folder):
        self.folder = folder
        self.layout = run_local.Layout(folder / "out")
        self.log = generate_log(300, 100, 6000, seed=5)
        self.order = np.argsort(self.log.timestamp, kind="stable")

    def write(self, day, rows, edit=lambda row: row, header="user_id,item_id,timestamp"):
        """`rows` of the log, by time, as the file of a day."""
        lines = [header]
        for row in self.order[rows]:
            user, item = self.log.user_ids[self.log.user_index[row]], self.log.item_ids[self.log.item_index[row]]
            lines.append(",".join(edit([user, item, f"{self.log.timestamp[row]:.0f}"])))
        (self.folder / f"day-{day}.csv").write_text("\n".join(lines) + "\n")

    def run(self, *options):
        """Exit code, output, errors, and the record in ML Metadata."""
        arguments = ["--data", str(self.folder / "day-{SPAN}.csv"), "--out", str(self.layout.out), *LENIENT]
        arguments += [part for setting in SETTINGS for part in ("--set", setting)]
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
            code = run_local.main([*arguments, *options])
        record = RunRecord.latest(self.layout.metadata)
        return SimpleNamespace(code=code, out=out.getvalue(), errors=errors.getvalue(), record=record)

    def state(self):
        """What must not change when a run is stopped: the pointer, and the versions that are served."""
        return read_pointer(self.layout.model_store), versions(self.layout.serving / "hqgnn")


def trained(result):
    return RunDirectory.load(result.record.uri("Trainer", "model_run") / "run")


@pytest.fixture(scope="module")
def days(tmp_path_factory, models_load_here):  # noqa: ARG001
    return Days(tmp_path_factory.mktemp("days"))


@pytest.fixture(scope="module")
def first(days):
    days.write(1, slice(0, 2500))
    return days.run()


@pytest.fixture(scope="module")
def third(days, first):  # noqa: ARG001  It comes after it.
    """The run of day 3, whose window of two days has lost day 1; day 2 repeats some of day 1."""
    days.write(2, slice(2400, 4000))
    days.write(3, slice(4000, 6000))
    return days.run()


@pytest.fixture(scope="module")
def refused(days, third):  # noqa: ARG001  It comes after it.
    """A model that has hardly been trained."""
    before = days.state()
    worse = ("training.warm_start=null", "model.initializer=random", "training.max_epochs=1")
    worse += ("training.learning_rate=1e-6",)
    return before, days.run(*(part for setting in worse for part in ("--set", setting)))


def test_the_first_day_starts_cold(first):
    assert first.code == 0, first.errors
    assert trained(first).metrics["warm_start"] is None
    assert "cold start: no model was blessed before" in first.errors
    assert re.search(r"trained 8 epochs in \d+ s; start: cold\n", first.out)
    assert first.record.artifacts["InteractionGen", "examples"].properties["span"].int_value == 1


def test_the_window_takes_the_latest_spans_and_a_day_starts_warm(third, days):
    assert third.code == 0, third.errors
    assert third.record.artifacts["InteractionGen", "examples"].properties["span"].int_value == 3
    run = trained(third)
    assert run.dataset.report.rows_read == 3600
    assert [file.span for file in run.dataset.report.files] == [2, 3]
    kept = run.metrics["warm_start"]
    assert kept["kept_users"] > 0
    assert kept["new_users"] == run.dataset.num_users - kept["kept_users"]
    assert run.metrics["epochs"] == 2
    assert f"warm start from version 1: {kept['kept_users']:,} users" in third.errors
    assert re.search(rf"trained 2 epochs in \d+ s; start: warm, {kept['kept_users']:,} users", third.out)
    assert read_pointer(days.layout.model_store)["version"] == 2


def test_users_and_items_that_dropped_out_are_still_known_to_the_served_model(first, third, days):
    before, now = trained(first).dataset, trained(third).dataset
    gone = sorted({*before.user_ids} - {*now.user_ids[now.train.user_index]})
    assert gone
    assert {*before.user_ids} <= {*now.user_ids}
    assert {*before.item_ids} <= {*now.item_ids}
    model = load_saved_model(days.layout.serving / "hqgnn" / "2")
    answer = model.signatures["serving_default"](user_id=np.array(gone[:3], object))
    assert answer["known_user"].numpy().all()


def test_the_last_model_is_compared_on_todays_test_split(third):
    figures = json.loads((third.record.uri("RankingEvaluator", "evaluation") / "metrics.json").read_text())
    everyone, *slices = figures["comparison"]["slices"]
    assert figures["comparison"]["note"].startswith("re-evaluated on today's test split")
    assert everyone["name"] == "all users"
    assert everyone["num_users"] == figures["num_users"]
    assert everyone["ndcg"] == pytest.approx(figures["metrics"]["ndcg@20"])
    names = [part["name"].split(" (")[0] for part in slices]
    assert names[:3] == ["cold users", "cold items", "popularity bucket 1 of 5"]
    assert names == [part["name"].split(" (")[0] for part in figures["slices"]]
    assert "cold users" in third.out


def test_a_worse_model_is_refused_with_the_slice_in_words_and_the_old_one_stays(refused, days):
    before, result = refused
    assert result.code == 1
    assert "not pushed" in result.out
    assert "popularity bucket" in result.out.partition("not pushed")[2]
    assert "a drop of more than 10.0% (max_slice_drop)" in result.out
    assert days.state() == before


def _rename(row):
    return [f"user-{row[0]}", *row[1:]]


@pytest.mark.parametrize(
    ("rows", "edit", "header", "message"),
    [
        (slice(0, 0), list, "user_id,item_id,timestamp", "day-4.csv: no interactions in 0 rows"),
        (slice(0, 150), list, "user_id,item_id,timestamp", "150 rows, 13.3 times fewer than the 2,000 of the files"),
        (slice(4000, 6000), lambda row: row[:2], "user_id,item_id", "day-4.csv: no column timestamp, which"),
        (slice(4000, 6000), list, "user_id,item,timestamp", "day-4.csv: no column item_id; expected at least user_id"),
        (slice(4000, 6000), _rename, "user_id,item_id,timestamp", "the ids of user_id are of another kind"),
    ],
    ids=["empty", "tiny", "missing column", "missing id", "other ids"],
)
@pytest.mark.usefixtures("refused")
def test_an_anomaly_stops_the_day_in_words_and_nothing_is_pushed(days, rows, edit, header, message):
    before = days.state()
    days.write(4, rows, edit, header)
    result = days.run()
    (days.folder / "day-4.csv").unlink()
    assert result.code == 2
    assert result.errors.count("\n") == 1
    assert message in result.errors
    assert set(result.record.states) == {"InteractionGen"}
    assert days.state() == before


@pytest.mark.usefixtures("refused")
def test_a_log_without_spans_is_held_to_that_of_the_last_model(days):
    before = days.state()
    days.write(5, slice(4000, 6000), _rename)
    result = days.run("--data", str(days.folder / "day-5.csv"), "--set", "data.num_spans=null")
    (days.folder / "day-5.csv").unlink()
    assert result.code == 2
    assert "day-5.csv: the ids of user_id are of another kind" in result.errors
    assert "day-3.csv" in result.errors
    assert days.state() == before


@pytest.mark.usefixtures("refused")
def test_a_curated_schema_stops_what_is_not_like_it(days):
    before = days.state()
    schema = days.folder / "schema.pbtxt"
    ids = "".join(
        f'feature {{ name: "{name}" type: BYTES presence {{ min_fraction: 1 }} }}' for name in ("user_id", "item_id")
    )
    schema.write_text(ids + 'feature { name: "timestamp" type: INT int_domain { max: 1000 } }')
    result = days.run("--schema", str(schema))
    assert result.code == 2
    assert "error: the log isn't what the schema says: test: timestamp: Out-of-range values" in result.errors
    assert "Trainer" not in result.record.states
    assert days.state() == before
