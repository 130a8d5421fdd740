"""Logs of every form and with every oddity: what a user would expect, or one line that says why not."""

import decimal
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse

from tf_hqgnn import InputError, Recommender
from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.any_log import read_any_features, read_any_items, read_log
from tf_hqgnn.data.frames import to_frame
from tf_hqgnn.data.id_types import IdType
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.report import BadRowLog

SMALL = pd.DataFrame(
    {"user_id": [7, 7, 8, 9], "item_id": [1, 2, 1, 3], "timestamp": [1.6e9, 1.6e9 + 1, 1.6e9 + 2, 1.6e9 + 3]}
)


def read(log, max_bad_rows=0, **options):
    with BadRowLog(max_bad_rows, in_python=True) as bad_rows:
        return read_log(log, "log", DataConfig(max_bad_rows=max_bad_rows), bad_rows, **options)


def pairs(table):
    users, items = table.user_ids[table.interactions.user_index], table.item_ids[table.interactions.item_index]
    return list(zip(users, items))


def with_ids(values):
    return SMALL.assign(user_id=values)


INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
NULLABLE = ["Int64", "UInt8", "string"]


@pytest.mark.parametrize("kind", [*INTS, *NULLABLE, "float64", "float32"])
def test_ids_come_back_in_their_type(kind):
    log = with_ids(SMALL["user_id"].astype(kind))
    model = Recommender("spectral", verbose=0, **{"model.embedding_dim": 2}).fit(log)
    answered = model.recommend(log["user_id"].iloc[:1], k=1)
    assert answered["user_id"].dtype == log["user_id"].dtype
    assert answered["user_id"].tolist() == log["user_id"].iloc[:1].tolist()
    assert answered["known"].tolist() == [True]


@pytest.mark.parametrize(
    ("values", "expected", "texts"),
    [
        (pd.Categorical(["a", "a", "b", "c"], categories=["a", "b", "c", "unused"]), "str", ["a", "b", "c"]),
        (pd.Categorical([7, 7, 8, 9]), "int64", ["7", "8", "9"]),
        (pd.array([7, 7, 8, 9], dtype=object), "int64", ["7", "8", "9"]),
        (pd.arrays.SparseArray([7, 7, 8, 9]), "int64", ["7", "8", "9"]),
        ([b"a", b"a", b"b", b"c"], "bytes", ["a", "b", "c"]),
        (["01", "01", "1", " 1"], "str", [" 1", "01", "1"]),
        ([7.0, 7.0, 8.0, 9.0], "float64", ["7", "8", "9"]),
        ([-1, -1, 2**62, 0], "int64", ["-1", "0", str(2**62)]),
    ],
)
def test_types_of_ids(values, expected, texts):
    found = read(with_ids(values))
    assert found.id_types["user_id"].name == expected
    assert found.table.user_ids.tolist() == texts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True, False, True, True], "column user_id is of type bool; expected strings or integers, cast the column"),
        ([1.5, 2, 3, 4], "column user_id holds 1.5, which is not a whole number"),
        ([np.inf, 2, 3, 4], "column user_id holds inf, which is not a whole number"),
        ([1, "a", 2, "b"], "column user_id can't be read (it holds int and str)"),
        ([uuid.UUID(int=one) for one in range(4)], "column user_id "),
        (pd.to_datetime([1, 2, 3, 4], unit="D"), "column user_id is of type timestamp["),
        (pd.period_range("2024", periods=4), "column user_id is of type extension<pandas.period"),
        ([decimal.Decimal("1")] * 4, "column user_id is of type decimal128(1, 0)"),
    ],
)
def test_what_is_no_id_is_refused_in_one_line(values, message):
    with pytest.raises(InputError) as caught:
        read(with_ids(values))
    assert str(caught.value).startswith(f"log: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("user_id", [7, None, 8, 9], "missing user_id"),
        ("user_id", ["a", None, "b", "c"], "missing user_id"),
        ("user_id", ["a", "  ", "b", "c"], "missing user_id"),
        ("user_id", pd.array([7, None, 8, 9], dtype="Int64"), "missing user_id"),
        ("user_id", pd.Categorical(["a", None, "b", "c"]), "missing user_id"),
        (
            "timestamp",
            pd.to_datetime([1.6e9, None, 1.7e9, 1.7e9], unit="s"),
            "timestamp not a finite number",
        ),
        ("rating", pd.array([1, None, 2, 3], dtype="Int64"), "rating not a finite number"),
        ("rating", [1, np.inf, 2, 3], "rating not a finite number"),
    ],
)
def test_bad_rows_are_counted_as_in_files(column, values, kind):
    log = SMALL.assign(**{column: values})
    with pytest.raises(InputError) as caught:
        read(log)
    assert str(caught.value).startswith(f"log: 1 bad row, 0 allowed: {kind} 1 (line 2); mend them, or leave them out")
    assert 'Recommender(**{"data.max_bad_rows": 1})' in str(caught.value)
    report = read(log, max_bad_rows=1).table.report
    assert (report.rows_read, report.kept, report.num_bad) == (4, 3, 1)


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_times_are_seconds_whatever_their_type(unit, per_second, zone):
    numbers = SMALL["timestamp"].to_numpy().astype(np.int64) * per_second
    times = pa.array(numbers, pa.timestamp(unit, zone))
    table = pa.table({"user_id": [7, 7, 8, 9], "item_id": [1, 2, 1, 3], "timestamp": times})
    for log in (table, table.to_pandas(), pl.from_arrow(table)):
        np.testing.assert_array_equal(read(log).table.interactions.timestamp, SMALL["timestamp"])


def test_times_may_be_text():
    text = ["2020-09-13T12:26:40", "2020-09-13 12:26:41", "2020-09-13 12:26:42Z", "1600000003"]
    found = read(SMALL.assign(timestamp=text)).table.interactions.timestamp
    np.testing.assert_array_equal(found, SMALL["timestamp"])


FORMS = {
    "pandas": lambda frame: frame,
    "odd index": lambda frame: frame.set_index(pd.Index([5, 5, 0, -1])),
    "columns in another order": lambda frame: frame[["timestamp", "item_id", "user_id"]],
    "more columns, one of them twice": lambda frame: pd.concat([frame, frame[["timestamp"]] * 2, frame[["timestamp"]]], axis=1, keys=None).set_axis([*frame, "x", "x"], axis=1),  # noqa: E501
    "polars": pl.from_pandas,
    "polars, categorical": lambda frame: pl.from_pandas(frame.astype({"user_id": str})).with_columns(pl.col("user_id").cast(pl.Categorical)),  # noqa: E501
    "arrow": pa.Table.from_pandas,
    "record batch": pa.RecordBatch.from_pandas,
    "chunks": lambda frame: pa.concat_tables([pa.Table.from_pandas(frame[:1]), pa.Table.from_pandas(frame[1:])]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_its_file(form, tmp_path):
    SMALL.to_parquet(tmp_path / "log.parquet")
    expected = read_interactions(tmp_path / "log.parquet")
    found = read(FORMS[form](SMALL)).table
    assert pairs(found) == pairs(expected)
    np.testing.assert_array_equal(found.interactions.timestamp, expected.interactions.timestamp)
    assert str(found.report) == str(expected.report)
    assert found.report.notes == expected.report.notes


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_matrix", "lil_matrix", "csr_array", "coo_array"])
def test_a_matrix_is_read_by_its_numbers(kind):
    dense = np.array([[0, 1, 0], [2.5, 0, 0], [0, 1, 1]])
    found = read(getattr(scipy.sparse, kind)(dense))
    assert pairs(found.table) == [("0", "1"), ("1", "0"), ("2", "1"), ("2", "2")]
    assert found.table.weight.tolist() == [1, 2.5, 1, 1]
    assert found.id_types["item_id"] == IdType("int64")
    stored_zero = scipy.sparse.coo_matrix(([1.0, 0.0], ([0, 1], [0, 1])))
    assert pairs(read(stored_zero).table) == [("0", "0")]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (SMALL[:0], "log: no interactions in 0 rows; expected at least one good row"),
        (pd.DataFrame(), "log: no column user_id and no column item_id; found: none; rename the columns"),
        (SMALL.rename(columns={"user_id": "userId", "item_id": "movieId"}), "log: no column user_id and no column item_id; found: userId, movieId, timestamp; rename the columns, or pass columns={'user_id': 'userId', 'item_id': 'movieId'}"),  # noqa: E501
        (SMALL.set_index("user_id"), "log: no column user_id; found: item_id, timestamp; the index has that name: pass .reset_index()"),  # noqa: E501
        (SMALL.set_axis(["user_id", "user_id", "item_id"], axis=1), "log: column user_id appears 2 times; expected it"),
        (SMALL.assign(rating="5"), "log: column rating is of type "),
        (SMALL.assign(timestamp=pd.to_timedelta([1, 2, 3, 4], unit="s")), "log: column timestamp is of type durat"),
        (SMALL.assign(user_id=None), "log: column user_id is of type null; expected strings or integers"),
        (SMALL.assign(user_id=""), "log: no interactions in 4 rows: missing user_id in all 4 rows, such as"),
        (pl.from_pandas(SMALL).lazy(), "log: expected a pandas or polars DataFrame, an Arrow table, a scipy sparse"),
        (SMALL["user_id"], "log: expected a pandas or polars DataFrame"),
        (np.ones((2, 2)), "log: expected a pandas or polars DataFrame"),
        ({"user_id": [1], "item_id": [2]}, "log: expected a pandas or polars DataFrame"),
        ("missing.csv", "missing.csv: no such file"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused_in_one_line(log, message):
    with pytest.raises(InputError) as caught:
        read(log)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_columns_of_other_names():
    other = SMALL.set_axis(["who", 2, "when"], axis=1)
    found = read(other, columns={"user_id": "who", "item_id": 2, "timestamp": "when"})
    assert pairs(found.table) == pairs(read(SMALL).table)
    # The named column comes before one that has the contract's own name.
    both = SMALL.assign(who=[1, 2, 3, 4])
    assert read(both, columns={"user_id": "who"}).table.user_ids.tolist() == ["1", "2", "3", "4"]
    for columns, message in (
        ({"user": "who"}, "columns: 'user' is not a column that a log can have; expected user_id, item_id"),
        ({"user_id": "nobody"}, "columns: log has no column 'nobody' for user_id; found: who, 2, when"),
    ):
        with pytest.raises(InputError, match=message):
            read(other, columns=columns)


def test_the_frame_stays_as_it_is():
    log = SMALL.assign(user_id=pd.Categorical(["a", "a", "b", "c"])).set_index(pd.Index([3, 1, 2, 0]))
    before = log.copy(deep=True)
    read(log)
    pd.testing.assert_frame_equal(log, before)
    matrix = scipy.sparse.coo_matrix(([2.0, 0.0], ([0, 1], [0, 1])))
    read(matrix)
    assert matrix.data.tolist() == [2, 0]


def test_items_of_a_table():
    items = pd.DataFrame({"item_id": [1.0, 2.0], "title": ["One", None], "available": [True, False], "year": [1, 2]})
    found = read_any_items(items)
    assert found.item_ids.tolist() == ["1", "2"]
    assert found.title.tolist() == ["One", ""]
    assert found.available.tolist() == [True, False]
    with pytest.raises(InputError, match="items row 2: item_id '1' came before in row 1; expected it once"):
        read_any_items(pl.DataFrame({"item_id": [1, 1]}))
    with pytest.raises(InputError, match="items: no column item_id"):
        read_any_items(pd.DataFrame({"id": [1]}))


def test_users_of_a_table():
    config = DataConfig(user_features="auto")
    users, items = read_any_features(pd.DataFrame({"user_id": [1, 2], "age": [30, 40]}), None, config)
    assert (users.pairs().tolist(), items) == ([["age=30"], ["age=40"]], None)
    with pytest.raises(InputError, match="users row 3: user_id '1' came before in row 1; expected it once"):
        read_any_features(pd.DataFrame({"user_id": [1, 2, 1]}), None, config)


def test_a_long_column_is_read_in_batches(monkeypatch):
    monkeypatch.setattr("tf_hqgnn.data.frame_input.BATCH_ROWS", 3)
    assert pairs(read(SMALL).table) == pairs(read_log(SMALL, "log", DataConfig(), BadRowLog()).table)
    with pytest.raises(InputError, match=r"missing user_id 1 \(line 4\)"):
        read(with_ids(["a", "b", "c", None]))


def test_a_frame_says_which_library_answers():
    assert to_frame(pl.from_pandas(SMALL), "log", ["user_id"]).library == "polars"
    assert to_frame(pa.Table.from_pandas(SMALL), "log", ["user_id"]).library == "pandas"
