"""A log of several days: which files it is, and that they count as one."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.anomalies import FileProfile, check_files
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.spans import resolve_spans
from tf_hqgnn.types import InputError

HEADER = "user_id,item_id,timestamp"


def write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def days(folder, *files):
    for number, rows in enumerate(files, 1):
        write(folder / f"day-{number}.csv", rows)
    return str(folder / "day-{SPAN}.csv")


def rows(start, stop):
    return [(f"u{n % 7}", f"i{n % 11}", n) for n in range(start, stop)]


class TestResolve:
    def _touch(self, folder, *names):
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()

    def _numbers(self, *arguments):
        return [span.number for span in resolve_spans(*arguments)]

    def test_spans_are_ordered_by_number_and_other_files_left_alone(self, tmp_path):
        self._touch(tmp_path, "day-9.csv", "day-010.csv", "day-x.csv", "day-11.csv.gz", "day-11.csv.tmp", "day-.csv")
        spans = resolve_spans(f"{tmp_path}/day-{{SPAN}}.csv")
        assert [(span.path.name, span.number) for span in spans] == [("day-9.csv", 9), ("day-010.csv", 10)]

    def test_a_window_takes_the_latest(self, tmp_path):
        self._touch(tmp_path, *(f"{n}.csv" for n in range(8, 13)))
        assert self._numbers(f"{tmp_path}/{{SPAN}}.csv", 2) == [11, 12]
        assert self._numbers(f"{tmp_path}/{{SPAN}}.csv", 99) == [8, 9, 10, 11, 12]

    def test_a_width_is_exact(self, tmp_path):
        self._touch(tmp_path, "01.csv", "2.csv", "003.csv")
        assert self._numbers(f"{tmp_path}/{{SPAN:2}}.csv") == [1]

    def test_a_span_may_be_a_folder_and_a_path_hold_what_globs_mean(self, tmp_path):
        for name in ("1", "2"):
            (tmp_path / "[b]" / name).mkdir(parents=True)
            (tmp_path / "[b]" / name / "log.csv").touch()
        assert self._numbers(f"{tmp_path}/[b]/{{SPAN}}/log.csv") == [1, 2]

    @pytest.mark.parametrize(
        ("path", "num_spans", "message"),
        [
            ("{tmp}/no-{{SPAN}}.csv", None, r"no span matches; expected a file with digits in place of \{SPAN\}"),
            ("{tmp}/{{SPAN}}-{{SPAN}}.csv", None, r"\{SPAN\} and \{SPAN\}; expected \{SPAN\} once"),
            ("{tmp}/{{SPAN}}/{{VERSION}}.csv", None, r"\{SPAN\} and \{VERSION\}; expected \{SPAN\} once"),
            ("{tmp}/{{YYYY}}.csv", None, r"\{YYYY\}; expected \{SPAN\} once"),
            ("{tmp}/{{SPAN:x}}.csv", None, r"\{SPAN:x\}; expected \{SPAN\} once"),
            ("{tmp}/a.csv", 3, r"data.num_spans=3, but data.path .*a.csv has no \{SPAN\}"),
            ("{tmp}/{{SPAN}}.csv", None, r"span 1 is in both .*01.csv and .*1.csv; expected one file for a span"),
        ],
    )
    def test_what_can_not_be_resolved(self, tmp_path, path, num_spans, message):
        self._touch(tmp_path, "1.csv", "01.csv")
        with pytest.raises(InputError, match=message):
            resolve_spans(path.format(tmp=tmp_path), num_spans)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 50)), min_size=12, max_size=40),
    st.integers(1, 10),
)
def test_spans_read_as_one_file_of_all_their_rows(tmp_path_factory, log, cut):
    folder = tmp_path_factory.mktemp("spans")
    path = days(folder, log[:cut], log[cut:])
    write(folder / "all.csv", log)
    free = {"max_growth": None, "max_id_drift": None}
    spans, one = (load_dataset(DataConfig(path=p, **free), seed=1) for p in (path, str(folder / "all.csv")))
    assert spans.fingerprint() == one.fingerprint()
    for part in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(spans, part).timestamp, getattr(one, part).timestamp)
    counts = ("rows_read", "kept", "duplicate", "filtered", "num_bad")
    assert [getattr(spans.report, name) for name in counts] == [getattr(one.report, name) for name in counts]


def test_a_bad_row_is_told_with_its_file_and_line(tmp_path):
    path = days(tmp_path, rows(0, 40), [*rows(40, 80), ("", "i1", 5)])
    with pytest.raises(InputError, match=r"day-2.csv: 1 bad row, 0 allowed: missing user_id 1 \(line 42\)"):
        load_dataset(DataConfig(path=path), seed=1)
    report = load_dataset(DataConfig(path=path, max_bad_rows=1), seed=1).report
    (kind,) = report.bad
    assert kind == f"{tmp_path}/day-2.csv: missing user_id"
    assert report.bad[kind].first_lines == (42,)
    assert (report.rows_read, report.num_bad) == (81, 1)
    assert [(file.span, file.rows) for file in report.files] == [(1, 40), (2, 41)]
    assert ReadReport.from_json(report.to_json()) == report


class TestAnomalies:
    """Each is told in words, and each limit can be turned off."""

    def _fails(self, path, message, **config):
        with pytest.raises(InputError, match=message):
            load_dataset(DataConfig(path=path, **config), seed=1)

    def test_an_empty_day(self, tmp_path):
        path = days(tmp_path, rows(0, 40), [])
        self._fails(path, r"day-2.csv: no interactions in 0 rows")
        (tmp_path / "day-2.csv").write_text("")
        self._fails(path, r"day-2.csv: the file is empty")

    @pytest.mark.parametrize(("last", "word"), [(400, "10.0 times more"), (4, "10.0 times fewer")])
    def test_a_day_of_another_size(self, tmp_path, last, word):
        path = days(tmp_path, rows(0, 40), rows(40, 80), rows(80, 120), rows(120, 120 + last))
        self._fails(path, rf"day-4.csv: {last} rows, {word} than the 40 of the files before it; less than 10 times is")
        for free in (None, 10.5):
            load_dataset(DataConfig(path=path, max_growth=free), seed=1)
        # Let through once, it doesn't stop the days after it.
        write(tmp_path / "day-5.csv", rows(600, 640))
        load_dataset(DataConfig(path=path), seed=1)

    @pytest.mark.parametrize("num_days", [1, 2, 4])
    def test_days_after_a_history_of_many(self, tmp_path, num_days):
        """The file of all days until then says nothing of how large a day is; the days say it."""
        small = [rows(760 + 40 * day, 800 + 40 * day) for day in range(num_days)]
        path = days(tmp_path, rows(0, 760), *small)
        assert len(load_dataset(DataConfig(path=path), seed=1).report.files) == 1 + num_days
        write(tmp_path / f"day-{num_days + 2}.csv", rows(2000, 2004))
        self._fails(path, rf"day-{num_days + 2}.csv: 4 rows, 10.0 times fewer than the 40 of the files before it")
        write(tmp_path / f"day-{num_days + 2}.csv", rows(2000, 2400))
        self._fails(path, rf"day-{num_days + 2}.csv: 400 rows, 10.0 times more than the 40 of the files before it")

    def test_a_day_beyond_the_window_is_no_history(self, tmp_path):
        path = days(tmp_path, rows(0, 40), rows(40, 80), rows(80, 84))
        self._fails(path, "day-3.csv: 4 rows, 10.0 times fewer than the 40", num_spans=2)

    def test_one_file_that_shrinks_was_cut_off(self):
        profile = FileProfile("log.csv", None, 38_000, ("user_id",), {}, {})
        with pytest.raises(InputError, match=r"log.csv: 2,000 rows, 19.0 times fewer"):
            check_files(replace(profile, rows=2_000), [profile], 10.0)
        check_files(replace(profile, name="day.csv", rows=2_000), [profile], 10.0)
        with pytest.raises(InputError, match=r"day.csv: 400,000 rows, 10.5 times more"):
            check_files(replace(profile, name="day.csv", rows=400_000), [profile], 10.0)

    def test_a_missing_column(self, tmp_path):
        path = days(tmp_path, rows(0, 40))
        write(tmp_path / "day-2.csv", [row[:2] for row in rows(40, 80)], "user_id,item_id")
        self._fails(path, r"day-2.csv: no column timestamp, which .*day-1.csv has; expected the same columns")
        write(tmp_path / "day-2.csv", [(*row, 1) for row in rows(40, 80)], HEADER + ",rating")
        self._fails(path, r"day-1.csv: no column rating, which .*day-2.csv has")
        write(tmp_path / "day-2.csv", rows(40, 80), "user,item_id,timestamp")
        self._fails(path, r"day-2.csv: no column user_id; expected at least user_id and item_id")

    def test_ids_of_another_kind(self, tmp_path):
        path = days(tmp_path, rows(0, 40), [(user[1:], item, time) for user, item, time in rows(40, 80)])
        self._fails(
            path,
            r"day-2.csv: the ids of user_id are of another kind \(100% digits\) than in .*day-1.csv "
            r"\(100% digits and letters\)",
        )
        load_dataset(DataConfig(path=path, max_id_drift=None), seed=1)

    def test_a_few_new_ids_of_another_kind_pass(self, tmp_path):
        path = days(tmp_path, rows(0, 40), [*rows(40, 80), ("guest", "i1", 99), ("7", "i1", 99)])
        load_dataset(DataConfig(path=path), seed=1)

    def test_integers_where_strings_were(self, tmp_path):
        for number, type in ((1, pa.string()), (2, pa.int64())):
            values = pa.array([str(n % 9) for n in range(40)]).cast(type)
            table = pa.table({"user_id": pa.array([str(n) for n in range(40)]), "item_id": values})
            pq.write_table(table, tmp_path / f"{number}.parquet")
        path = f"{tmp_path}/{{SPAN}}.parquet"
        self._fails(path, r"2.parquet: item_id holds integers, but strings in .*1.parquet; the same id must be of the")
