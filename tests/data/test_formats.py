"""Parquet, TFRecord, adjacency lists, and how a format is told."""

import bz2
import datetime
import decimal
import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tf_hqgnn.data.input_file import open_input
from tf_hqgnn.data.interactions import detect_format, read_interactions
from tf_hqgnn.data.tfrecord_file import record_batches
from tf_hqgnn.types import InputError


def pairs_of(table):
    inner = table.interactions
    return list(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def bad_of(table):
    return {kind: (bad.count, bad.first_lines) for kind, bad in table.report.bad.items()}


@pytest.mark.parametrize(
    "users",
    [
        pa.array(["007", "NA"]),
        pa.array(["007", "NA"], pa.large_utf8()),
        pa.array(["007", "NA"]).dictionary_encode(),
        pa.array([b"007", b"NA"]),
        pa.array([b"007", b"NA"], pa.large_binary()),
    ],
    ids=lambda array: str(array.type),
)
def test_parquet_ids(tmp_path, users):
    table = read_interactions(write_parquet(tmp_path / "a.parquet", user_id=users, item_id=pa.array([3, 20])))
    assert pairs_of(table) == [("007", "3"), ("NA", "20")]
    assert table.item_ids.tolist() == ["20", "3"]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (pa.array([7, 8], pa.int64()), [7, 8]),
        (pa.array([7.5, 8], pa.float32()), [7.5, 8]),
        (pa.array([decimal.Decimal("7.5"), decimal.Decimal("8.0")]), [7.5, 8]),
        (pa.array([7500, 8000], pa.timestamp("ms")), [7.5, 8]),
        (pa.array([7, 8], pa.timestamp("s", tz="Europe/Rome")), [7, 8]),
        (pa.array([datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]), [86400, 172800]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_parquet_times(tmp_path, time, seconds):
    path = write_parquet(tmp_path / "a.parquet", user_id=["a", "b"], item_id=["x", "y"], timestamp=time)
    assert read_interactions(path).interactions.timestamp.tolist() == seconds


def test_parquet_bad_rows(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        user_id=pa.array([b"a", None, b"b", b"\xff", b"", b"c", b"d"]),
        item_id=pa.array(["x", "x", None, None, "x", "y", "z"]),
        rating=pa.array([1.0, 1.0, 1.0, None, 1.0, None, np.inf]),
    )
    quarantine = tmp_path / "bad.csv"
    table = read_interactions(path, quarantine_path=quarantine)
    assert pairs_of(table) == [("a", "x")]
    assert bad_of(table) == {
        "missing user_id": (2, (2, 5)),
        "missing item_id": (1, (3,)),
        "undecodable bytes": (1, (4,)),
        "rating not a finite number": (2, (6, 7)),
    }
    assert '"{""user_id"": null, ""item_id"": ""x"", ""rating"": 1.0}"' in quarantine.read_text().splitlines()[1]
    with pytest.raises(InputError, match="6 bad rows, 5 allowed"):
        read_interactions(path, max_bad_rows=5)


def test_strings_that_are_not_utf8_in_a_string_column(tmp_path):
    # Parquet readers don't check what a file says is text.
    raw = pa.array([b"ok", b"\xff\xfe"])
    text = pa.Array.from_buffers(pa.utf8(), 2, raw.buffers())
    table = read_interactions(write_parquet(tmp_path / "a.parquet", user_id=text, item_id=["x", "y"]), max_bad_rows=1)
    assert pairs_of(table) == [("ok", "x")]
    assert bad_of(table) == {"undecodable bytes": (1, (2,))}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [1.5], "item_id": ["x"]}, "column user_id is of type double; expected strings or integers"),
        (
            {"user_id": ["a"], "item_id": ["x"], "rating": ["5"]},
            "rating is of type string; expected numbers, cast",
        ),
        ({"user_id": ["a"], "item_id": ["x"], "timestamp": [True]}, "type bool; expected numbers, times or strings"),
        ({"user_id": ["a"]}, "no column item_id"),
    ],
)
def test_parquet_columns_that_cannot_be_read(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        read_interactions(write_parquet(tmp_path / "a.parquet", **columns))


def test_not_parquet(tmp_path):
    (tmp_path / "a.parquet").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(InputError, match=r"not a Parquet file \(.*\); expected one, or set data\.format"):
        read_interactions(tmp_path / "a.parquet")


def test_adjacency(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"u1 i1 i2\nu2\n\nu3 i2 i2 \xc3\xa9\r\nu4 \xff i1\n\xfe i1 i2\n")
    table = read_interactions(path, "adjacency", max_bad_rows=3)
    assert pairs_of(table) == [("u1", "i1"), ("u1", "i2"), ("u3", "i2"), ("u3", "é"), ("u4", "i1")]
    assert (table.report.rows_read, table.report.duplicate) == (9, 1)
    assert bad_of(table) == {"undecodable bytes": (3, (5, 6, 6))}
    with pytest.raises(InputError, match="3 bad rows, 2 allowed"):
        read_interactions(path, "adjacency", max_bad_rows=2)


def test_adjacency_of_users_without_items(tmp_path):
    (tmp_path / "a.txt").write_text("u1\nu2\n")
    with pytest.raises(InputError, match=r"no interactions in 0 rows \(read as adjacency\)"):
        read_interactions(tmp_path / "a.txt", "adjacency")


def write_tfrecord(path, rows, compression=""):
    import tensorflow as tf

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            features = tf.train.Features(feature={name: feature(value) for name, value in row.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_tfrecord(tmp_path, compression):
    rows = [
        {"user_id": b"007", "item_id": b"x", "timestamp": 5, "rating": 2.5},
        {"user_id": b"", "item_id": b"x", "timestamp": 5, "rating": 2.5},
        {"user_id": b"a", "timestamp": 5, "rating": 2.5},
        {"user_id": b"a", "item_id": [b"x", b"y"], "timestamp": 5, "rating": 2.5},
        {"user_id": b"a", "item_id": b"\xff", "timestamp": 5, "rating": 2.5},
        {"user_id": b"a", "item_id": b"x", "rating": 2.5},
        {"user_id": b"a", "item_id": b"x", "timestamp": 5, "rating": float("nan")},
    ]
    table = read_interactions(write_tfrecord(tmp_path / "a.tfrecord", rows, compression), max_bad_rows=6)
    assert pairs_of(table) == [("007", "x")]
    assert (table.interactions.timestamp.tolist(), table.rating.tolist()) == ([5], [2.5])
    assert bad_of(table) == {
        "missing user_id": (1, (2,)),
        "missing item_id": (1, (3,)),
        "wrong column count": (1, (4,)),
        "undecodable bytes": (1, (5,)),
        "timestamp not a finite number": (1, (6,)),
        "rating not a finite number": (1, (7,)),
    }


def test_times_as_text_in_tfrecords(tmp_path):
    rows = [
        {"user_id": b"a", "item_id": b"x", "timestamp": b"1970-01-02T00:00:05Z"},
        {"user_id": b"b", "item_id": b"x", "timestamp": 7},
        {"user_id": b"c", "item_id": b"x", "timestamp": b"yesterday"},
    ]
    table = read_interactions(write_tfrecord(tmp_path / "a.tfrecord", rows), max_bad_rows=1)
    assert table.interactions.timestamp.tolist() == [86405, 7]
    assert bad_of(table) == {"timestamp not a finite number": (1, (3,))}


def test_unusable_tfrecords(tmp_path):
    import tensorflow as tf

    (tmp_path / "a.tfrecord").write_bytes(b"user_id,item_id\n1,2\n")
    with pytest.raises(InputError, match="not a TFRecord file; copy the file again"):
        read_interactions(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(str(tmp_path / "b.tfrecord")) as writer:
        writer.write(b"\x0a\xff")
    with pytest.raises(InputError, match=r"record 1 isn't a tf\.Example"):
        read_interactions(tmp_path / "b.tfrecord")
    with pytest.raises(InputError, match="no column item_id"):
        read_interactions(write_tfrecord(tmp_path / "c.tfrecord", [{"user_id": b"a"}]))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.CSV", b"", "csv"),
        ("a.pq", b"", "parquet"),
        ("a.inter", b"", "inter"),
        ("a.tfrecord.gz", b"", "tfrecord"),
        ("a.txt", b"0 1 2 3\n1 2\n", "adjacency"),
        ("a.txt", b"\xef\xbb\xbfuser_id,item_id\n", "csv"),
        ("a", b"user_id:token\titem_id:token\n", "inter"),
        ("a", b"PAR1....", "parquet"),
    ],
)
def test_formats_are_told(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert detect_format(tmp_path / name) == expected


def test_a_format_that_cannot_be_told(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    with pytest.raises(
        InputError,
        match=r"can't tell the format .*b'hello'; set data\.format to one of adjacency, csv, inter, parquet, tfrecord",
    ):
        read_interactions(tmp_path / "a")
    with pytest.raises(InputError, match="format 'xml': expected one of auto, adjacency, csv"):
        read_interactions(tmp_path / "a", "xml")


def test_paths_that_are_no_input(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match=r"empty\.csv: the file is empty; expected a header"):
        read_interactions(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="is a directory; expected a file"):
        read_interactions(tmp_path)
    with pytest.raises(InputError, match=r"no such file; .* check data\.path"):
        read_interactions(tmp_path / "absent.csv")


def test_min_rating(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id\na,x\n")
    with pytest.raises(InputError, match=r"min_rating=4 needs a column rating"):
        read_interactions(tmp_path / "a.csv", min_rating=4)
    (tmp_path / "b.csv").write_text("user_id,item_id,rating\na,x,1\nb,y,3\n")
    with pytest.raises(InputError, match=r"no rating reaches min_rating=4, the highest is 3"):
        read_interactions(tmp_path / "b.csv", min_rating=4)
    table = read_interactions(tmp_path / "b.csv", min_rating=3)
    assert (pairs_of(table), table.report.filtered) == ([("b", "y")], 1)
    assert table.user_ids.tolist() == ["b"]
    assert json.loads(json.dumps(table.report.to_json()))["rows_read"] == 2


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_every_part_of_a_compressed_tfrecord_file_is_read(tmp_path, compress):
    def records(name):
        rows = [{"user_id": b"%s%d" % (name, n), "item_id": b"i"} for n in range(5)]
        return write_tfrecord(tmp_path / "plain.tfrecord", rows).read_bytes()

    first, second = records(b"a"), records(b"b")
    expected = sorted(f"{name}{n}" for name in "ab" for n in range(5))
    path = tmp_path / "log.tfrecord.gz"
    for parts in (
        [first, b"", second],
        [b"", first + second],
        [first, b"", b"", second, b""],
        # A record goes on in the next member.
        [first[:20], first[20:] + second],
    ):
        path.write_bytes(b"".join(map(compress, parts)) + b"\0" * 512)
        assert read_interactions(path).user_ids.tolist() == expected


def test_a_tfrecord_file_is_never_half_read(tmp_path):
    whole = write_tfrecord(tmp_path / "whole", [{"user_id": b"u%d" % n, "item_id": b"i" * n} for n in range(1, 4)])
    data = whole.read_bytes()
    path = tmp_path / "part.tfrecord"
    ends = {0, *np.cumsum([16 + len(record) for record in read_records(whole)]).tolist()}
    for size in range(1, len(data)):
        if size in ends:
            continue
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"part\.tfrecord: (cut off in record|damaged or cut off|not a TFRecord)"):
            read_interactions(path)
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(InputError, match=r"part\.tfrecord: (cut off|damaged|not a TFRecord|record \d is damaged)"):
            read_interactions(path)


def read_records(path):
    import tensorflow as tf

    return list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())


def test_records_are_those_of_tensorflow(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    records = [rng.bytes(int(size)) for size in [0, 1, *rng.integers(0, 200, 9000), 1024, 1025, 300_000]]
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for record in records:
            writer.write(record)
    with open_input(tmp_path / "a") as stream:
        batches = list(record_batches(stream, "a"))
    assert len(batches) > 2
    assert [record for batch in batches for record in batch] == records == read_records(tmp_path / "a")
    assert detect_format(tmp_path / "a") == "tfrecord"


def test_integer_ids_of_tfrecords_are_those_of_csv(tmp_path):
    table = read_interactions(write_tfrecord(tmp_path / "a.tfrecord", [{"user_id": 7, "item_id": -1}]))
    assert (table.user_ids.tolist(), table.item_ids.tolist()) == (["7"], ["-1"])
    with pytest.raises(InputError, match=r"user_id is of type float; expected bytes or int64, write the ids as text"):
        read_interactions(write_tfrecord(tmp_path / "b.tfrecord", [{"user_id": 7.5, "item_id": b"i"}]))
