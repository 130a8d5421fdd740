"""Times as text, against Python's own reader of ISO 8601."""

import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.timestamps import column_to_seconds, to_seconds
from tf_hqgnn.types import InputError

ZONES = st.builds(
    lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-23 * 60 - 59, 23 * 60 + 59)
) | st.just(timezone.utc)


@settings(max_examples=400)
@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES), st.sampled_from("Tt "), st.booleans())
@example(datetime(1900, 2, 28, tzinfo=timezone.utc), "T", False)
@example(datetime(2000, 2, 29, 23, 59, 59, 999999, tzinfo=timezone.utc), "T", True)
def test_what_python_writes_is_read(time, separator, with_z):
    text = time.isoformat().replace("T", separator)
    if with_z:
        text = text.replace("+00:00", "Z")
    expected = (time - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    assert to_seconds(text) == pytest.approx(expected, abs=1e-4)
    assert column_to_seconds(pa.array([text]))[0] == to_seconds(text)


FORMS = {
    "2024-01-02T03:04:05Z": 1704164645,
    "2024-01-02T03:04:05": 1704164645,
    "2024-01-02 03:04:05": 1704164645,
    "2024-01-02 03:04:05 UTC": 1704164645,
    "2024-01-02 03:04:05.123": 1704164645.123,
    "2024-01-02 03:04:05,5": 1704164645.5,
    "2024-01-02T03:04:05.123456789Z": 1704164645.123456789,
    "2024-01-02T03:04Z": 1704164640,
    "2024-01-02": 1704153600,
    "2024-01-02T03:04:05+02:00": 1704157445,
    "2024-01-02T03:04:05+0200": 1704157445,
    "2024-01-02T03:04:05-02": 1704171845,
    "20240102T030405Z": 1704164645,
    "20240102T0304": 1704164640,
    " 2024-01-02 ": 1704153600,
    "1969-12-31T23:59:59Z": -1,
    "0001-01-01T00:00:00Z": -62135596800,
    "1704164645": 1704164645,
    " -1.5e3 ": -1500,
    "20240102": 20240102,
}
NO_TIMES = [
    *("", " ", "yesterday", "nan", "inf", "02/01/2024", "2024-13-01", "2024-02-30", "2023-02-29", "1900-02-29"),
    *("2024-01-02T24:00:00", "2024-01-02T03:60:00", "2024-01-02T03:04:60", "2024-1-2", "0000-01-01", "2024-0102"),
    *("2024-01-02T03:04:05+24:00", "2024-01-02T03:04:05+01:60", "2024-01-02T03:04:05 CET", "2024-01-02T", "1_000"),
    *("2024-01-02\n", "\uff12024-01-02", "2024-01-02T03:04:05.1234567890"),
]


@pytest.mark.parametrize(("text", "seconds"), FORMS.items())
def test_forms(text, seconds):
    assert to_seconds(text) == seconds
    assert column_to_seconds(pa.array([text, text])).tolist() == [seconds] * 2


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time(text):
    assert math.isnan(to_seconds(text))
    assert math.isnan(column_to_seconds(pa.array([text]))[0])


@settings(max_examples=300)
@given(st.lists(st.one_of(st.none(), st.sampled_from([*FORMS, *NO_TIMES]), st.text("0123456789-:TZ+. ", max_size=22))))
def test_a_column_is_its_values_one_by_one(values):
    expected = [math.nan if value is None else to_seconds(value) for value in values]
    np.testing.assert_array_equal(column_to_seconds(pa.array(values, pa.utf8())), expected)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.inter"])
def test_iso_times_of_a_text(tmp_path, name):
    separator = "," if name == "log.csv" else "\t"
    times = [f'"{text}"' if separator in text else text for text in FORMS]
    rows = [("user_id", "item_id", "timestamp"), *((f"u{n}", "i", text) for n, text in enumerate(times))]
    (tmp_path / name).write_text("".join(f"{separator.join(row)}\n" for row in rows))
    table = read_interactions(tmp_path / name)
    expected = {f"u{n}": seconds for n, seconds in enumerate(FORMS.values())}
    assert dict(zip(table.user_ids, table.interactions.timestamp)) == expected


def test_a_bad_time_among_good_ones_is_a_bad_row(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,x,2024-01-02\nb,x,2024-02-30\nc,x,5\n")
    report = read_interactions(tmp_path / "log.csv", max_bad_rows=1).report
    assert {kind: bad.first_lines for kind, bad in report.bad.items()} == {"timestamp not a finite number": (3,)}
    with pytest.raises(InputError, match=r"1 bad row, 0 allowed: .*max_bad_rows=1"):
        read_interactions(tmp_path / "log.csv")


def test_where_nearly_all_rows_fail_nobody_is_advised_to_leave_them_out(tmp_path):
    rows = [*(f"u{n},x,{n}/01/2024" for n in range(1, 20)), "v,x,5", "w,x,5"]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError) as caught:
        read_interactions(tmp_path / "log.csv")
    message = str(caught.value)
    assert "19 bad rows, 0 allowed: timestamp not a finite number 19 (lines 2, 3, 4, 5, 6, ...); nearly all" in message
    assert "such as '1/01/2024'; expected timestamp to be seconds since 1970, or ISO 8601" in message
    assert "max_bad_rows" not in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nan", "is not a finite number, such as 'nan'"),
        ("", "is not a finite number, such as ''"),
        ("x", "is text"),
    ],
)
def test_what_the_numbers_of_all_rows_are(tmp_path, value, said):
    (tmp_path / "log.csv").write_text(f"user_id,item_id,rating\na,x,{value}\nb,x,{value}\n")
    with pytest.raises(InputError, match=rf"rating in all 2 rows {said}.*; expected rating to be a number such as 4"):
        read_interactions(tmp_path / "log.csv")


@pytest.mark.parametrize("allowed", [{}, {"max_bad_rows": 2}])
def test_where_every_row_fails_the_accepted_forms_are_named(tmp_path, allowed):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,x,02/01/2024\nb,x,03/01/2024\n")
    with pytest.raises(InputError) as caught:
        read_interactions(tmp_path / "log.csv", **allowed)
    assert str(caught.value) == (
        f"{tmp_path}/log.csv: no interactions in 2 rows (read as csv): timestamp in all 2 rows is text such as "
        "'02/01/2024'; expected timestamp to be seconds since 1970, or ISO 8601 "
        "such as 2024-01-31, 2024-01-31 17:05:00 or 2024-01-31T17:05:00.5+01:00"
    )


def write_log(path, *times):
    path.parent.mkdir(exist_ok=True)
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n},i{n},{time}\n" for n, time in enumerate(times)))
    return path


SECONDS, MILLISECONDS = 1704164645, 1704164645000


@pytest.mark.parametrize(
    "times",
    [
        (SECONDS, MILLISECONDS),
        (MILLISECONDS, "2024-01-02T03:04:05Z"),
        (MILLISECONDS, MILLISECONDS * 1000),
        (SECONDS, SECONDS * 10**9, 5),
    ],
)
def test_units_are_not_mixed_in_a_file(tmp_path, times):
    with pytest.raises(InputError, match=r"a\.csv: timestamps in \w*seconds .* and in .*; expected one unit, seconds"):
        read_interactions(write_log(tmp_path / "a.csv", *times))


def test_units_are_not_mixed_in_a_log(tmp_path):
    write_log(tmp_path / "log" / "a.csv", 0)
    write_log(tmp_path / "log" / "b.csv", SECONDS)
    write_log(tmp_path / "log" / "c.csv", MILLISECONDS)
    message = r"c\.csv: timestamps in milliseconds, but in seconds in .*b\.csv; expected one unit in all files"
    with pytest.raises(InputError, match=message):
        read_interactions(tmp_path / "log")
    spans = DataConfig(path=str(tmp_path / "day-{SPAN}.csv"))
    write_log(tmp_path / "day-1.csv", SECONDS)
    write_log(tmp_path / "day-2.csv", MILLISECONDS)
    with pytest.raises(InputError, match=r"day-2\.csv: timestamps in milliseconds, but in seconds in .*day-1\.csv"):
        load_dataset(spans, 1)
    given = DataConfig(train_path=str(tmp_path / "day-1.csv"), test_path=str(tmp_path / "day-2.csv"))
    with pytest.raises(InputError, match=r"day-2\.csv: timestamps in milliseconds, but in seconds in .*day-1\.csv"):
        load_dataset(given, 1)


@pytest.mark.parametrize(
    "times",
    [
        (0, 1, 2),
        (0, SECONDS),
        (MILLISECONDS, MILLISECONDS + 5),
        # A day that stands for never.
        ("1970-01-01", "2024-01-02", "9999-12-31"),
        (-SECONDS, SECONDS),
        (20240102, 20249999),
    ],
)
def test_one_unit_whichever_is_read(tmp_path, times):
    assert len(read_interactions(write_log(tmp_path / "a.csv", *times))) == len(times)


@pytest.mark.parametrize("times", [(20240102,), (20240102, 20231231), (20240102030405, 20231231235959)])
def test_dates_written_as_numbers_are_no_seconds(tmp_path, times):
    with pytest.raises(InputError, match=r"timestamps such as \d+ are dates written as numbers, .*; write 2024-01-31"):
        read_interactions(write_log(tmp_path / "a.csv", *times))
