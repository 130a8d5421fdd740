"""The quarantine never costs anybody a file, and no spreadsheet runs what is in it."""

import csv
import errno
import os
import resource
import signal

import pytest

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.quarantine import without_formula
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

LOG = "user_id,item_id,rating\nu,i,x\nv,j,1\n"


def refused(read, path, message):
    before = {one: one.read_bytes() for one in path.parent.rglob("*") if one.is_file()}
    with pytest.raises(InputError, match=rf"^data\.quarantine_path .*{message}") as caught:
        read()
    assert "\n" not in str(caught.value)
    assert {one: one.read_bytes() for one in path.parent.rglob("*") if one.is_file()} == before


def test_the_log_is_not_overwritten_by_its_quarantine(tmp_path, monkeypatch):
    log = tmp_path / "x.csv"
    log.write_text(LOG)
    (tmp_path / "link.csv").symlink_to(log)
    os.link(log, tmp_path / "hard.csv")
    monkeypatch.chdir(tmp_path)
    for name in (log, "x.csv", "./x.csv", tmp_path / "link.csv", tmp_path / "hard.csv"):
        refused(lambda name=name: read_interactions(log, quarantine_path=name), log, "it is an input")
    assert log.read_text() == LOG


@pytest.mark.parametrize("which", ["train_path", "valid_path", "test_path", "items_path"])
def test_no_other_input_is_overwritten(tmp_path, which):
    paths = {}
    for name in ("train_path", "valid_path", "test_path"):
        (tmp_path / f"{name}.csv").write_text(LOG)
        paths[name] = str(tmp_path / f"{name}.csv")
    (tmp_path / "items.csv").write_text("item_id\nj\n")
    paths["items_path"] = str(tmp_path / "items.csv")
    config = DataConfig(**paths, quarantine_path=paths[which])
    refused(lambda: load_dataset(config, 1), tmp_path / "x", "it is an input")


def test_spans_and_parts_are_spared(tmp_path):
    for number in (1, 2):
        (tmp_path / f"day-{number}.csv").write_text(LOG)
    days = {"path": str(tmp_path / "day-{SPAN}.csv")}
    for number, options in ((2, {}), (1, {"num_spans": 1})):
        config = DataConfig(**days, **options, quarantine_path=str(tmp_path / f"day-{number}.csv"))
        refused(lambda config=config: load_dataset(config, 1), tmp_path / "x", "(it is an input|no quarantine file)")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "part-0.csv").write_text(LOG)
    for name in ("part-0.csv", "bad.csv"):
        place = tmp_path / "log" / name
        refused(lambda place=place: read_interactions(tmp_path / "log", quarantine_path=place), place, "which is an in")


def test_what_is_there_is_replaced_only_if_it_is_a_quarantine(tmp_path):
    (tmp_path / "x.csv").write_text(LOG)
    other = tmp_path / "notes.txt"
    other.write_text("precious")
    refused(
        lambda: read_interactions(tmp_path / "x.csv", quarantine_path=other),
        other,
        r"is there .* begins with 'precious'",
    )
    bad = tmp_path / "bad.csv"
    bad.touch()
    (tmp_path / "link").symlink_to(bad)
    for name in (bad, bad, tmp_path / "link"):
        read_interactions(tmp_path / "x.csv", quarantine_path=name)
        with bad.open(newline="") as file:
            assert [row["row"] for row in csv.DictReader(file)] == ["u,i,x"]
    assert (tmp_path / "link").is_symlink()


def test_a_place_where_no_file_can_be_is_refused_before_anything_is_read(tmp_path):
    absent = tmp_path / "absent.csv"
    for name, message in (
        (tmp_path, "it is a directory"),
        ("/dev/null", "it isn't a regular file"),
        (tmp_path / "no" / "bad.csv", "no such file or directory"),
        (tmp_path / ("x" * 300), "file name too long"),
    ):
        refused(lambda name=name: read_interactions(absent, quarantine_path=name), absent, message)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.csv").write_text(LOG + ",i,1\n" * 30_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            read_interactions(tmp_path / "x.csv", quarantine_path=tmp_path / "bad.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "bad.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd", "'+cmd"),
        ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-1.5e3", "-1.5e3"),
        ("+7", "+7"),
        ("-5,i", "'-5,i"),
        ("u=1", "u=1"),
        ("", ""),
    ],
)
def test_a_spreadsheet_runs_nothing(text, shown):
    assert without_formula(text) == shown


def test_formulas_of_rows_and_of_names_are_neutralised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "=x.csv").write_text("user_id,item_id\n=1+1\nu,i\n")
    read_interactions("=x.csv", quarantine_path="bad.csv")
    assert (tmp_path / "bad.csv").read_text() == "file,line,kind,row\n'=x.csv,2,wrong column count,'=1+1\n"


def test_a_log_of_bad_rows_without_a_quarantine_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with BadRowLog(1) as log:
        log.add("x.csv", "broken quoting", 2, b'"')
    assert list(tmp_path.iterdir()) == []
