"""Ids from files of every kind, with what is wrong in them."""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_hqgnn.beam import users as users_module
from tf_hqgnn.beam.shards import MAX_ID_BYTES, ToShards, shard_of, sort_out
from tf_hqgnn.beam.users import ROWS, ReadUsers, find_files, find_sources
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
        if not value:
            expected[row] = "empty id"
        elif len(value) > MAX_ID_BYTES:
            expected[row] = "too long"
        elif value.decode("utf-8", "replace").encode() != value:
            expected[row] = "undecodable"
        else:
            expected[row] = "duplicate" if value in seen else None
            seen.add(value)
    assert found == expected
