"""A split dataset as TFX `Examples`, and back again from what Transform made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.types import Array, IntArray, Interactions, ObjectArray

SPLITS = ("train", "valid", "test")


def interaction_columns(dataset: SplitDataset, split: str) -> pa.Table:
    """One split as columns `user_id`, `item_id` (string) and, where the log has them, `timestamp` and `weight`.

    A timestamp is int64 where every one of the log is a whole number, which keeps it exact; otherwise it is a float,
    to which tf.Example gives single precision.
    """
    interactions: Interactions = getattr(dataset, split)
    columns = {
        "user_id": pa.array(dataset.user_ids, pa.string()).take(pa.array(interactions.user_index)),
        "item_id": pa.array(dataset.item_ids, pa.string()).take(pa.array(interactions.item_index)),
    }
    if interactions.timestamp is not None:
        dtype = np.int64 if _whole_timestamps(dataset) else np.float64
        columns["timestamp"] = pa.array(interactions.timestamp.astype(dtype))
    if interactions.weight is not None:
        columns["weight"] = pa.array(interactions.weight.astype(np.float32))
    return pa.table(columns)


def serialize_examples(columns: pa.Table) -> Iterator[bytes]:
    """The rows of `interaction_columns` as serialized tf.Examples.

    Example:
      >>> columns = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [7]})
      >>> features = tf.train.Example.FromString(next(serialize_examples(columns))).features.feature
      >>> features["item_id"].bytes_list.value, features["timestamp"].int64_list.value
      ([b'i'], [7])
    """
    users, items = columns["user_id"].to_pylist(), columns["item_id"].to_pylist()
    times: list[dict[str, tf.train.Feature]] = [{}] * len(users)
    if "timestamp" in columns.column_names:
        if pa.types.is_integer(columns.schema.field("timestamp").type):
            values = columns["timestamp"].to_pylist()
            times = [{"timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))} for value in values]
        else:
            values = columns["timestamp"].to_pylist()
            times = [{"timestamp": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))} for value in values]
    weights: list[dict[str, tf.train.Feature]] = [{}] * len(users)
    if "weight" in columns.column_names:
        values = columns["weight"].to_pylist()
        weights = [{"weight": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))} for value in values]
    for user, item, time, weight in zip(users, items, times, weights):
        features = {"user_id": _bytes_feature(user), "item_id": _bytes_feature(item), **time, **weight}
        yield tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def read_transformed(patterns: Sequence[str], users: Sequence[bytes], items: Sequence[bytes]) -> Interactions:
    """Reads materialised, transformed examples: `user_index`, `item_index` (int64), perhaps `timestamp`, `weight`.

    Args:
      patterns: file patterns of gzipped TFRecords, as TFX's FnArgs hold them.
      users: Transform's vocabulary of user ids, at whose rows `user_index` points.
      items: the same for items.

    Raises:
      ValueError: An index has no id in its vocabulary.
    """
    files = sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))
    parsed = [_parse(batch) for batch in _record_batches(files)]
    user_index = np.concatenate([part["user_index"] for part in parsed]) if parsed else np.zeros(0, np.int64)
    item_index = np.concatenate([part["item_index"] for part in parsed]) if parsed else np.zeros(0, np.int64)
    for name, index, vocabulary in (("user", user_index, users), ("item", item_index, items)):
        if len(index) and not (index.min() >= 0 and index.max() < len(vocabulary)):
            raise ValueError(
                f"{name}_index is between {index.min()} and {index.max()}, but the vocabulary has {len(vocabulary)} "
                f"ids; Transform must analyze every split"
            )
    timestamp, weight = (
        np.concatenate([part[name] for part in parsed]) if parsed and all(name in part for part in parsed) else None
        for name in ("timestamp", "weight")
    )
    return Interactions(user_index.astype(np.int32), item_index.astype(np.int32), timestamp, weight)


def reindex(interactions: Interactions, user_rank: IntArray, item_rank: IntArray) -> Interactions:
    """The interactions with row `r` renamed to `rank[r]`, in canonical order: by user, then item."""
    users = user_rank[interactions.user_index].astype(np.int32)
    items = item_rank[interactions.item_index].astype(np.int32)
    renamed = replace(interactions, user_index=users, item_index=items)
    return renamed.take(np.lexsort((items, users)))


def sort_vocabulary(vocabulary: Sequence[bytes]) -> tuple[ObjectArray, IntArray]:
    """Ids by code point, which is the package's order, and for every old row the new one.

    Transform orders by frequency. With the package's own order a pipeline and `tf-hqgnn train` give the same model.

    Example:
      >>> ids, rank = sort_vocabulary([b"b", b"c", b"a"])
      >>> ids.tolist(), rank.tolist()
      (['a', 'b', 'c'], [1, 2, 0])
    """
    ids = np.array([value.decode("utf-8") for value in vocabulary] or [""], object)[: len(vocabulary)]
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    return ids[order], rank


def examples_path(uri: str, split: str) -> Path:
    """The folder of one split of an Examples artifact."""
    return Path(uri) / f"Split-{split}"


def _record_batches(files: Sequence[str]) -> Iterable[tf.Tensor]:
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(65536).prefetch(2) if files else ()


def _parse(serialized: tf.Tensor) -> dict[str, Array]:
    first = tf.train.Example.FromString(serialized[0].numpy()).features.feature
    features = {name: tf.io.FixedLenFeature([], tf.int64) for name in ("user_index", "item_index")}
    if "timestamp" in first:
        is_whole = first["timestamp"].WhichOneof("kind") == "int64_list"
        features["timestamp"] = tf.io.FixedLenFeature([], tf.int64 if is_whole else tf.float32)
    if "weight" in first:
        features["weight"] = tf.io.FixedLenFeature([], tf.float32)
    parsed = {name: values.numpy() for name, values in tf.io.parse_example(serialized, features).items()}
    for name in ("timestamp", "weight"):
        if name in parsed:
            parsed[name] = parsed[name].astype(np.float64)
    return parsed


def _whole_timestamps(dataset: SplitDataset) -> bool:
    times = [getattr(dataset, split).timestamp for split in SPLITS]
    # Beyond 2^53 a float64 no longer tells whole numbers apart, and beyond 2^63 int64 overflows.
    return all(np.all((time == np.floor(time)) & (np.abs(time) < 2.0**63)) for time in times if time is not None)


def _bytes_feature(value: str) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode("utf-8")]))
