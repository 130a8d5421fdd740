"""One limit of ids, whichever file they come from."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tf_hqgnn.beam.plan import read_ids
from tf_hqgnn.beam.shards import sort_out
from tf_hqgnn.beam.users import ReadUsers, find_sources
from tf_hqgnn.data.ids import MAX_ID_BYTES, id_fault, id_faults
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.types import InputError

# What follows in a column of ids, and which fault it has.
IDS = {
    "plain": None,
    " around ": None,
    "x" * MAX_ID_BYTES: None,
    "é" * (MAX_ID_BYTES // 2): None,
    "x" * (MAX_ID_BYTES + 1): "{} too long",
    "é" * (MAX_ID_BYTES // 2) + "x": "{} too long",
    " ": "missing {}",
    " \t ": "missing {}",
    "a\0b": "NUL character in {}",
    "\0": "NUL character in {}",
}


def test_one_by_one_and_as_a_column_are_the_same():
    for kind in (pa.utf8(), pa.binary()):
        masks = id_faults(pa.array([*(value.encode() for value in IDS), b"", None], pa.binary()).cast(kind))
        found = [next((fault for fault, mask in masks.items() if mask[row]), None) for row in range(len(IDS) + 2)]
        assert found == [*map(id_fault, IDS), "missing", "missing"]
    assert [fault is None for fault in map(id_fault, IDS)] == [kind is None for kind in IDS.values()]


def as_csv(path, users, items):
    path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in zip(users, items)), newline="")


def as_quoted(path, users, items):
    rows = "".join(f'"{user}","{item}"\n' for user, item in zip(users, items))
    # A row with broken quoting: everything is read row by row.
    path.write_text(f'user_id,item_id\n"a"b,c\n{rows}', newline="")


def as_inter(path, users, items):
    rows = "".join(f"{user}\t{item}\n" for user, item in zip(users, items) if "\t" not in user + item)
    path.write_text(f"user_id:token\titem_id:token\n{rows}", newline="")


def as_parquet(path, users, items):
    pq.write_table(pa.table({"user_id": users, "item_id": items}), path)


def as_dictionaries(path, users, items):
    columns = {"user_id": pa.array(users).dictionary_encode(), "item_id": pa.array(items).dictionary_encode()}
    pq.write_table(pa.table(columns), path)


def as_tfrecord(path, users, items):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for user, item in zip(users, items):
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                for name, value in (("user_id", user), ("item_id", item))
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def is_word(text):
    return text.split() == [text]


def as_lists(path, users, items):
    rows = "".join(f"{user} {item}\n" for user, item in zip(users, items) if is_word(user) and is_word(item))
    path.write_text(rows, newline="")


FORMATS = {
    "csv": as_csv,
    "quoted.csv": as_quoted,
    "inter": as_inter,
    "parquet": as_parquet,
    "dictionaries.parquet": as_dictionaries,
    "tfrecord": as_tfrecord,
    "lists": as_lists,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_every_format_counts_them_as_bad_rows(tmp_path, name, column):
    path = tmp_path / f"log.{name}"
    values, others = list(IDS), ["other"] * len(IDS)
    users, items = (values, others) if column == "user_id" else (others, values)
    FORMATS[name](path, users, items)
    table = read_interactions(path, "adjacency" if name == "lists" else "auto", max_bad_rows=99)
    expected = {}
    for value, kind in IDS.items():
        written = is_word(value) if name == "lists" else not (name == "inter" and "\t" in value)
        if kind is not None and written:
            expected[kind.format(column)] = expected.get(kind.format(column), 0) + 1
    found = {kind: rows.count for kind, rows in table.report.bad.items() if kind != "broken quoting"}
    assert found == expected
    good = {value for value, kind in IDS.items() if kind is None and (name != "lists" or is_word(value))}
    ids = table.user_ids if column == "user_id" else table.item_ids
    assert set(ids) == good


@pytest.mark.parametrize("value", [value for value, kind in IDS.items() if kind is not None])
def test_items_and_lists_of_ids_are_refused_in_one_line(tmp_path, value):
    (tmp_path / "items.csv").write_text(f'item_id,title\na,A\n"{value}",B\n', newline="")
    with pytest.raises(InputError, match=r"items\.csv line 3: (missing item_id|item_id too long|NUL character)"):
        read_items(tmp_path / "items.csv")
    if value.strip():
        (tmp_path / "ids.txt").write_text(f"a\n{value}\n")
        with pytest.raises(InputError, match=r"ids\.txt.*(too long|isn't text)"):
            read_ids(tmp_path / "ids.txt")


def test_users_of_a_batch_are_rejected_by_the_same_rule(tmp_path):
    pq.write_table(pa.table({"user_id": list(IDS)}), tmp_path / "u.parquet")
    sources, _ = find_sources("u", [str(tmp_path / "u.parquet")], "no model")
    batches = [batch for source in sources for batch in ReadUsers().process(source)]
    shard = sort_out(0, pa.Table.from_batches(batches))
    good = [value.encode() for value, kind in IDS.items() if kind is None]
    assert shard.rows.column("user_id").to_pylist() == good
    reasons = {"missing {}": "empty id", "{} too long": "too long", "NUL character in {}": "NUL character"}
    assert shard.rejected.column("reason").to_pylist() == [reasons[kind] for kind in IDS.values() if kind]


def test_what_is_odd_about_ids_is_said(tmp_path):
    (tmp_path / "a.csv").write_text('user_id,item_id\n u,i\nu,"i\nj"\nv,k \n')
    report = read_interactions(tmp_path / "a.csv").report
    assert report.kept == 3
    assert report.notes == (
        "values of user_id with blanks around them: 1, such as ' u'; ids are taken as they are",
        "values of item_id with blanks around them: 1, such as 'k '; ids are taken as they are",
        "values of item_id with line breaks: 1, such as 'i\\nj'; check the quotes: one that isn't closed joins lines",
    )
    assert ReadReport.from_json(json.loads(json.dumps(report.to_json()))) == report
