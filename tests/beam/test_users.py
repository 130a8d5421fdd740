"""Ids from files of every kind, with what is wrong in them."""

import bz2
import gzip
import io
import os

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_hqgnn.beam import users as users_module
from tf_hqgnn.beam.plan import read_ids
from tf_hqgnn.beam.running import run_to_end
from tf_hqgnn.beam.shards import ToShards, shard_of, sort_out
from tf_hqgnn.beam.users import ROWS, ReadUsers, find_files, find_sources
from tf_hqgnn.data.ids import MAX_ID_BYTES
from tf_hqgnn.types import InputError


def read(pattern):
    """`(file, row, id, fault)` of each row, in the order read."""
    sources, _ = find_sources(str(pattern), [file.path for file in find_files(str(pattern))], "no model")
    batches = [batch for source in sources for batch in ReadUsers().process(source)]
    return [tuple(row.values()) for row in pa.Table.from_batches(batches, ROWS).to_pylist()]


def test_text(tmp_path):
    (tmp_path / "users.txt").write_bytes("\ufeffann\r\n\n bob \ncarl".encode())
    assert read(tmp_path / "users.txt") == [
        (0, 1, b"ann", None),
        (0, 2, b"", None),
        (0, 3, b" bob ", None),
        (0, 4, b"carl", None),
    ]
    (tmp_path / "empty.txt").touch()
    assert read(tmp_path / "empty.txt") == []


def test_text_across_blocks_and_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(users_module, "_BATCH_BYTES", 7)
    ids = [f"user {number}".encode() for number in range(100)]
    (tmp_path / "users.txt.gz").write_bytes(gzip.compress(b"\r\n".join(ids) + b"\r\n"))
    assert read(tmp_path / "users.txt.gz") == [(0, row, user, None) for row, user in enumerate(ids, 1)]


def test_csv(tmp_path):
    (tmp_path / "u.csv").write_bytes(b'a,user_id\n1,"x,\ny"\n2\n\n3,\xff\n4,007\n')
    wrong = "wrong number of columns"
    assert read(tmp_path / "u.csv") == [
        (0, 1, b"x,\ny", None),
        (0, 2, b"2", wrong),
        (0, 3, b"\xff", None),
        (0, 4, b"007", None),
    ]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array(["a", None, "b"]), [b"a", None, b"b"]),
        (pa.array([b"\xff", b"b"], pa.large_binary()), [b"\xff", b"b"]),
        (pa.array([7, 8], pa.uint16()), [b"7", b"8"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), [b"a", None, b"a"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_parquet_by_row_groups(tmp_path, ids, expected):
    pq.write_table(pa.table({"x": np.arange(len(ids)), "user_id": ids}), tmp_path / "u.parquet", row_group_size=2)
    assert read(tmp_path / "u.parquet") == [(0, row, user, None) for row, user in enumerate(expected, 1)]


def test_a_pattern_names_several_files(tmp_path):
    (tmp_path / "u2.txt").write_text("b")
    (tmp_path / "u1.csv").write_text("user_id\na\n")
    assert [row[:3] for row in read(tmp_path / "u*")] == [(0, 1, b"a"), (1, 1, b"b")]


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.csv", b"user,item\n1,2\n", r"u\.csv: expected one column user_id in the header, found user, item"),
        ("u.csv", b"", r"u\.csv: expected one column user_id in the header, found nothing"),
        ("u.parquet", b"user_id\n1\n", r"u\.parquet: not a Parquet file"),
        ("u.parquet", parquet(pa.table({"id": [1]})), r"expected one column user_id in the header, found id"),
        (
            "u.parquet",
            parquet(pa.table({"user_id": [1.5]})),
            r"user_id is of type double; expected strings",
        ),
        ("u.jsonl", b"{}", r"u\.jsonl: expected a text file of one id a line, \.csv or \.parquet"),
    ],
)
def test_files_that_hold_no_users(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_field_of_any_length_is_a_row(tmp_path):
    (tmp_path / "u.csv").write_bytes(b"user_id\n" + b"x" * 200_000)
    assert read(tmp_path / "u.csv") == [(0, 1, b"x" * 200_000, None)]


IDS = st.lists(st.one_of(st.none(), st.binary(max_size=3), st.sampled_from([b"a", b"\xc3", b"x" * (MAX_ID_BYTES + 1)])))


@given(IDS, st.integers(1, 5))
def test_every_row_is_answered_or_rejected_once_whatever_the_shards(ids, num_shards):
    rows = [[0] * len(ids), list(range(1, len(ids) + 1)), ids, [None] * len(ids)]
    batch = pa.record_batch([pa.array(column, field.type) for column, field in zip(rows, ROWS)], schema=ROWS)
    parts = [
        part for part in ToShards(num_shards, frozenset(range(num_shards))).process(batch) if isinstance(part, tuple)
    ]
    found = {}
    for number, data in reversed(parts):
        shard = sort_out(number, pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(data), ROWS)]))
        found |= dict.fromkeys(shard.rows.column("row").to_pylist())
        found |= dict(zip(shard.rejected.column("row").to_pylist(), shard.rejected.column("reason").to_pylist()))
        assert shard_of(shard.rows.column("user_id").combine_chunks(), num_shards).tolist() == [number] * len(
            shard.rows
        )
    expected, seen = {}, set()
    for row, value in enumerate(ids, 1):
        if not (value or b"").strip():
            expected[row] = "empty id"
        elif len(value) > MAX_ID_BYTES:
            expected[row] = "too long"
        elif b"\0" in value:
            expected[row] = "NUL character"
        elif value.decode("utf-8", "replace").encode() != value:
            expected[row] = "undecodable"
        else:
            expected[row] = "duplicate" if value in seen else None
            seen.add(value)
    assert found == expected


TABLES = {
    "u.tsv": b"item\tuser_id\n1\tann\n2\tbob b\n",
    "u.csv": b"user_id;item\nann;1\nbob b;2\n",
    "u.inter": b"item_id:token\tuser_id:token\n1\tann\n2\tbob b\n",
    "u.user": b"user_id:token\tage:float\nann\t1\nbob b\t2\n",
    "u.txt": b"user_id\nann\nbob b\n",
    "users": b"item,user_id\r\n1,ann\r\n2,bob b\r\n",
    "u.psv": b"sep=|\nuser_id|x\nann|1\nbob b|2\n",
}


@pytest.mark.parametrize(("name", "content"), TABLES.items(), ids=TABLES)
@pytest.mark.parametrize("extension", ["", ".gz", ".bz2", ".zst"])
def test_tables_are_read_by_column(tmp_path, name, content, extension):
    compressed = pa.BufferOutputStream()
    if extension == ".zst":
        with pa.CompressedOutputStream(compressed, "zstd") as stream:
            stream.write(content)
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}
    data = compress[extension](content) if extension in compress else compressed.getvalue().to_pybytes()
    (tmp_path / (name + extension)).write_bytes(data)
    assert read(tmp_path / (name + extension)) == [(0, 1, b"ann", None), (0, 2, b"bob b", None)]


def test_quotes_in_a_table_with_tabs_are_text(tmp_path):
    (tmp_path / "u.tsv").write_bytes(b'user_id\tx\nu1\t"abc\nu2\tdef"\n"u3\tx\n')
    assert read(tmp_path / "u.tsv") == [(0, 1, b"u1", None), (0, 2, b"u2", None), (0, 3, b'"u3', None)]


def test_bad_rows_of_a_table_are_rejected_with_their_kind(tmp_path):
    (tmp_path / "u.csv").write_bytes(b'user_id,x\na,1\nb\n"c"d,1\n,1\n\xff,2\n')
    assert read(tmp_path / "u.csv") == [
        (0, 1, b"a", None),
        (0, 2, b"b", "wrong number of columns"),
        (0, 3, b'"c"d,1', "broken quoting"),
        (0, 4, b"", None),
        (0, 5, b"\xff", None),
    ]


def test_rows_of_a_table_are_numbered_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(users_module, "_BATCH_BYTES", 50)
    monkeypatch.setattr(users_module, "_BATCH_ROWS", 3)
    ids = [f"user {number}" for number in range(100)]
    (tmp_path / "u.csv").write_text("x,user_id\n" + "".join(f"1,{user}\n" for user in ids) + "1\n")
    expected = [(0, row, user.encode(), None) for row, user in enumerate(ids, 1)]
    assert read(tmp_path / "u.csv") == [*expected, (0, 101, b"1", "wrong number of columns")]


@pytest.mark.parametrize("name", ["users[1].csv", "users*.csv", "user?.csv", "users[1].csv.gz"])
def test_the_literal_name_comes_before_the_pattern(tmp_path, name):
    content = b"user_id\nann\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (tmp_path / "users1.csv").write_text("user_id\nother\n")
    assert read(tmp_path / name) == [(0, 1, b"ann", None)]
    (tmp_path / name).unlink()
    if name == "users[1].csv":
        assert read(tmp_path / name) == [(0, 1, b"other", None)]


def test_a_folder_of_part_files(tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.csv.crc").write_bytes(b"crc")
    (folder / "part-0.csv").write_text("user_id\na\n")
    (folder / "part-1.csv").write_text("user_id\nb\n")
    (folder / "part-2.csv").touch()
    pq.write_table(pa.table({"user_id": ["c"]}), folder / "part-3.snappy.parquet")
    assert read(folder) == read(f"{folder}/") == [(0, 1, b"a", None), (1, 1, b"b", None), (2, 1, b"c", None)]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "users.csv")
    with pytest.raises(InputError, match=r"users\.csv: not a regular file \(a pipe\)"):
        read(tmp_path / "users.csv")


def test_a_parquet_file_of_another_name(tmp_path):
    pq.write_table(pa.table({"user_id": ["a"]}), tmp_path / "users")
    assert read(tmp_path / "users") == [(0, 1, b"a", None)]


REFUSED = {
    "u.txt": (
        b"196\t242\t3\n186\t302\t3\n",
        r"u\.txt: the lines are separated by tabs and no column is named user_id, the first is .*; expected ids one",
    ),
    "u.tsv": (b"user\titem\na\tb\n", r"u\.tsv: expected one column user_id in the header, found user, item"),
    "u.csv.gz": (gzip.compress(b"user_id\n" + b"a\n" * 9999)[:-20], r"u\.csv\.gz: the gzip data ends too early"),
    "v.csv.gz": (b"user_id\na\n", r"v\.csv\.gz: the content isn't compressed with gzip, as the name says"),
    "u16.csv": ("user_id\na\n".encode("utf-16"), r"u16\.csv: the content is UTF-16; expected UTF-8"),
    "u.zip": (b"PK\x03\x04" + b"\0" * 40, r"u\.zip: the content is a ZIP archive"),
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, *c) for n, c in REFUSED.items()], ids=REFUSED)
def test_files_that_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith("--users ")
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_one_line_with_file_and_row_group(tmp_path):
    path = tmp_path / "u.parquet"
    ids = pa.table({"user_id": [f"user {n}" for n in range(2000)]})
    pq.write_table(ids, path, row_group_size=1000, use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset + 30
    data = bytearray(path.read_bytes())
    data[start : start + 300] = b"\xff" * 300
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^--users {path}: row group 2 of 2 is damaged \(.*\); copy the file again"):
        read(path)
    # The way through Beam, whose exceptions are pages long.
    sources, _ = find_sources(str(path), [str(path)], "no model")
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create(sources) | beam.ParDo(ReadUsers())
    with pytest.raises(InputError, match=rf"^--users {path}: row group 2 of 2 is damaged \(.*\); copy .* anew$"):
        run_to_end(pipeline)


LISTS = {
    "x.txt": b"a\r\n\nb c\n",
    "x.tsv": b"title\titem_id\nA\ta\nB\tb c\n",
    "x.csv.gz": gzip.compress(b"item_id\na\nb c\n"),
    "x": b"\xef\xbb\xbfitem_id;n\na;1\nb c;2\n",
}


@pytest.mark.parametrize(("name", "content"), LISTS.items(), ids=LISTS)
def test_excluded_items_are_read_in_the_same_ways(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_ids(tmp_path / name) == ("a", "b c")


def test_excluded_items_of_parquet_and_none_at_all(tmp_path):
    pq.write_table(pa.table({"item_id": ["a", "b c"]}), tmp_path / "x.parquet")
    assert read_ids(tmp_path / "x.parquet") == ("a", "b c")
    (tmp_path / "none.txt").touch()
    assert read_ids(tmp_path / "none.txt") == ()
    (tmp_path / "bad.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(InputError, match=r"bad\.txt: id 2 isn't UTF-8 text; expected ids one a line"):
        read_ids(tmp_path / "bad.txt")
    (tmp_path / "other.csv").write_text("item\na\n")
    with pytest.raises(InputError, match=r"other\.csv: expected one column item_id in the header, found item"):
        read_ids(tmp_path / "other.csv")


FOREIGN = {
    "commas": b"uid,country\nu1,DE\n",
    "semicolons": b"u1;DE\nu2;FR\n",
    "bars": b"u1|DE\nu2|FR\n",
    "double colons": b"1::F::1\n2::M::56\n",
    "lists": b"0 1 2\n1 3\n2\n",
    "another header": b"User_ID\nu1\nu2\n",
    "a word": b"user\nu1\nu2\n",
    "JSON": b"[1,2,3]\n",
    "JSON of lists": b"[[1, 2], [3]]\n",
    "HTML": b"<!DOCTYPE html>\n<html>\n<body>Not found</body>\n</html>\n",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', }\n\x01\x00\x00\x00",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00]\x94(K\x01K\x02e.",
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_nothing_but_a_list_of_ids_is_taken_for_one(tmp_path, content):
    path = tmp_path / "u.txt"
    path.write_bytes(content)
    for ask in (lambda: read(path), lambda: read_ids(path)):
        with pytest.raises(InputError, match=r"^--(users|exclude) .*u\.txt: .*[;(]") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_tfrecord_file_of_another_name_is_no_list(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "u.txt")) as writer:
        writer.write(b"a" * 40)
    with pytest.raises(InputError, match=r"u\.txt: the content isn't text; expected ids one a line"):
        read(tmp_path / "u.txt")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ids_may_look_odd_and_end_in_any_way(tmp_path, monkeypatch, end):
    ids = ["Smith, John", "user 17", "a|b", "7", "Ünal", "user", "id"]
    (tmp_path / "u.txt").write_bytes((end.join(ids) + end).encode())
    expected = [(0, row, user.encode(), None) for row, user in enumerate(ids, 1)]
    assert read(tmp_path / "u.txt") == expected
    monkeypatch.setattr(users_module, "_BATCH_BYTES", 7)
    assert read(tmp_path / "u.txt") == expected
    assert read_ids(tmp_path / "u.txt") == tuple(ids)


def test_headers_of_joined_files_are_no_users(tmp_path):
    (tmp_path / "u.csv").write_text("user_id,n\na,1\nuser_id,n\nb,2\n\ufeffuser_id,n\nc,3\n")
    faults = [None, "repeated header", None, "repeated header", None]
    assert [row[3] for row in read(tmp_path / "u.csv")] == faults
    (tmp_path / "x.csv").write_text("item_id\na\nitem_id\nb\n")
    with pytest.raises(InputError, match=r"x\.csv line 3: the header is repeated; expected it once"):
        read_ids(tmp_path / "x.csv")


@pytest.mark.parametrize("name", ["x" * 300, "no.txt"])
def test_a_name_that_cannot_be_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match=r"(no such file|file name too long); expected a file"):
        read_ids(tmp_path / name)
