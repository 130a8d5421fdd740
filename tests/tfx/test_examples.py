import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.tfx.examples import interaction_columns, read_transformed, reindex, serialize_examples, sort_vocabulary
from tf_hqgnn.types import Interactions


def _interactions(users, items, times=None):
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), None if times is None else np.array(times, np.float64)
    )


def _dataset(times):
    nothing = _interactions([], [], [] if times is not None else None)
    return SplitDataset(
        np.array(["007", "b\nc"], object),
        np.array(["é", "ü,x"], object),
        train=_interactions([0, 1, 1], [1, 0, 1], times),
        valid=nothing,
        test=nothing,
    )


def _features(dataset):
    examples = serialize_examples(interaction_columns(dataset, "train"))
    return [tf.train.Example.FromString(example).features.feature for example in examples]


def _write(path, rows):
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for row in rows:
            features = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                if isinstance(value, float)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                for name, value in row.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def test_an_example_holds_the_ids_byte_by_byte():
    features = _features(_dataset(None))
    assert [feature["user_id"].bytes_list.value[0] for feature in features] == [b"007", b"b\nc", b"b\nc"]
    assert [feature["item_id"].bytes_list.value[0].decode() for feature in features] == ["ü,x", "é", "ü,x"]
    assert all(set(feature) == {"user_id", "item_id"} for feature in features)


def test_whole_timestamps_stay_exact():
    # Single precision, tf.Example's only float, would round these to 128 s.
    times = [1_700_000_001, 1_700_000_002, 1_700_000_003]
    assert [feature["timestamp"].int64_list.value[0] for feature in _features(_dataset(times))] == times


def test_other_timestamps_are_floats():
    times = [0.5, 1.0, 1_700_000_001.5]
    values = [feature["timestamp"].float_list.value[0] for feature in _features(_dataset(times))]
    np.testing.assert_array_equal(values, np.array(times, np.float32))


def test_an_empty_split_gives_no_examples():
    assert list(serialize_examples(interaction_columns(_dataset(None), "valid"))) == []


@pytest.mark.parametrize("time", [1_700_000_001, 0.25])
def test_transformed_examples_come_back(tmp_path, time):
    _write(tmp_path / "a.gz", [{"user_index": 1, "item_index": 0, "timestamp": time}])
    _write(tmp_path / "b.gz", [{"user_index": 0, "item_index": 2, "timestamp": time + 1}])
    read = read_transformed([f"{tmp_path}/*"], [b"u", b"v"], [b"i", b"j", b"k"])
    assert (read.user_index.tolist(), read.item_index.tolist()) == ([1, 0], [0, 2])
    assert read.timestamp.tolist() == [time, time + 1]


def test_an_empty_split_comes_back_empty(tmp_path):
    _write(tmp_path / "a.gz", [])
    read = read_transformed([f"{tmp_path}/*"], [], [])
    assert len(read) == 0
    assert read.timestamp is None


@pytest.mark.parametrize("row", [-1, 1])
def test_a_row_without_an_id_is_an_error(tmp_path, row):
    _write(tmp_path / "a.gz", [{"user_index": row, "item_index": 0}])
    with pytest.raises(ValueError, match=r"user_index is between .* vocabulary has 1 ids; Transform must analyze"):
        read_transformed([f"{tmp_path}/*"], [b"u"], [b"i"])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True))
def test_a_sorted_vocabulary_keeps_every_id(ids):
    new, rank = sort_vocabulary([value.encode() for value in ids])
    assert new.tolist() == sorted(ids)
    assert [new[row] for row in rank] == ids


def test_reindexed_interactions_are_in_canonical_order():
    moved = reindex(_interactions([0, 1, 0], [0, 1, 1], [5, 6, 7]), np.array([1, 0]), np.array([1, 0]))
    assert (moved.user_index.tolist(), moved.item_index.tolist()) == ([0, 1, 1], [0, 0, 1])
    assert moved.timestamp.tolist() == [6, 7, 5]
    assert moved.user_index.dtype == moved.item_index.dtype == np.int32
