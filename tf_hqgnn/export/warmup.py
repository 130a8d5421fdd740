"""Warm-up records: requests that a server answers before it says that a model is ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tf_hqgnn.data.tfrecord_file import record_batches
from tf_hqgnn.export.layout import DEFAULT_SIGNATURE, FOR_FEATURES, MAX_WARMUP_RECORDS, WARMUP_FILE
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.retrieval.coded_rows import FUSED_BATCHES
from tf_hqgnn.types import InputError, ObjectArray

_BATCHES = (1, 16)
# XLA compiles the search when a batch of a size comes first: a server does that before it takes requests.
_COMPILED_BATCHES = tuple(size for size in FUSED_BATCHES.tolist() if size <= 64)

Requests = list[tuple[str, Mapping[str, Any]]]


def warmup_batches(jit_compile: bool) -> tuple[int, ...]:
    """The sizes of batches by which a model is warmed up: those that XLA compiles for, if it is to compile."""
    return _COMPILED_BATCHES if jit_compile else _BATCHES


def warmed_up_batches(model_dir: str | Path) -> tuple[int, ...]:
    """The sizes of batches in the warm-up records of a SavedModel, ascending; none where it has no records."""
    path = Path(model_dir) / WARMUP_FILE
    if not path.is_file():
        return ()
    logs = map(prediction_log_pb2.PredictionLog.FromString, warmup_records(path))
    users = (log.predict_log.request.inputs["user_id"] for log in logs if "user_id" in log.predict_log.request.inputs)
    return tuple(sorted({value.tensor_shape.dim[0].size for value in users}))


def warmup_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file: serialized PredictionLog, which may be damaged all the same.

    TensorFlow's reader isn't used: a damaged length ends the whole process, and its end takes up to a second.

    Raises:
      InputError: The file isn't TFRecord, is damaged or is cut off.
    """
    with path.open("rb") as stream:
        for batch in record_batches(stream, str(path)):
            yield from batch


def warmup_requests(
    user_ids: ObjectArray,
    item_ids: ObjectArray,
    k: int,
    batch_sizes: tuple[int, ...],
    user_features: tuple[str, ...] = (),
) -> Requests:
    """`(signature, inputs)` that run every signature at every batch size, an unknown user among the larger ones.

    Args:
      user_ids: some ids, object [n >= 1].
      item_ids: some ids, object [n >= 1].
      k: answers per row.
      batch_sizes: rows per request.
      user_features: some, as `name=value`; empty where the model hasn't learnt from any.
    """
    requests: Requests = []
    for size in batch_sizes:
        users = np.resize(np.asarray(user_ids, object), size)
        items = np.resize(np.asarray(item_ids, object), size)
        if size > 1:
            users[-1] = ""
        any_category = np.full(size, "", object)
        request = {"k": np.int32(k), "exclude_item_id": items[:, None], "category": any_category}
        examples = np.array([_example(user_id) for user_id in users], object)
        requests += [
            (DEFAULT_SIGNATURE, {"user_id": users}),
            ("recommend", {"user_id": users, **request}),
            ("recommend_for_history", {"history_item_id": items[:, None], **request}),
            ("recommend_with_history", {"user_id": users, "history_item_id": items[:, None], **request}),
            ("similar_items", {"item_id": items, "k": np.int32(k)}),
            ("score", {"user_id": users, "item_id": items[:, None]}),
            ("similar_users", {"user_id": users, "k": np.int32(k)}),
            ("explain", {"user_id": users, "item_id": items, "k": np.int32(k)}),
            ("rerank", {"user_id": users, "candidate_item_id": items[None], "k": np.int32(k), "allow_seen": [False]}),
            ("recommend_where", {"user_id": users, **_request_options(k)}),
            ("embed_user", {"user_id": users}),
            ("tf_example", {"examples": examples}),
        ]
        if user_features:
            features = np.tile(np.array(user_features, object), (size, 1))
            requests.append((FOR_FEATURES, {"user_feature": features, **request}))
    return requests


def write_warmup(model_dir: Path, model_name: str, requests: Requests) -> None:
    """Writes `requests` as a TFRecord of PredictionLog into the SavedModel `model_dir`."""
    path = Path(model_dir) / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def replay_warmup(model_dir: str | Path) -> int:
    """Loads a SavedModel and answers its warm-up records, as a server does before it takes requests.

    Args:
      model_dir: a version's folder, with `saved_model.pb`.

    Returns:
      How many records were answered.

    Raises:
      ValueError: There are no records, too many, or one can't be read or answered; the message names it.
      ImportError: The model needs ScaNN, which isn't installed.
    """
    path = Path(model_dir) / WARMUP_FILE
    if not path.is_file():
        raise ValueError(f"{model_dir} has no warm-up records: expected the file {WARMUP_FILE}")
    model = load_saved_model(model_dir)
    try:
        records = list(warmup_records(path))
    except InputError as error:
        raise ValueError(f"the warm-up records are damaged: {error}") from error
    if not 0 < len(records) <= MAX_WARMUP_RECORDS:
        raise ValueError(
            f"{path} holds {len(records)} records, a server takes 1 to {MAX_WARMUP_RECORDS}: export it again"
        )
    for number, record in enumerate(records, start=1):
        try:
            _replay(model, prediction_log_pb2.PredictionLog.FromString(record))
        except Exception as error:  # Whatever it is, a server would refuse the model for it.
            raise ValueError(f"{path}, record {number}: {' '.join(str(error).split())}") from error
    return len(records)


def _replay(model: Any, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise ValueError(f"expected a predict_log, got {kind or 'nothing'}")
    request = log.predict_log.request
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise ValueError(f"no signature {name}, the model has {', '.join(sorted(model.signatures))}")
    inputs = {key: tf.constant(tf.make_ndarray(proto)) for key, proto in request.inputs.items()}
    outputs = model.signatures[name](**inputs)
    for key, value in outputs.items():
        if value.dtype.is_floating and bool(tf.reduce_any(tf.math.is_nan(value))):
            raise ValueError(f"the output {key} of {name} holds NaN")


def _request_options(k: int) -> Mapping[str, Any]:
    """Inputs of `recommend_where`, the same for all users: nothing is left out, but the answers are to differ."""
    lists = ("exclude_item_id", "include_item_id", "category", "exclude_category")
    numbers = {"diversity": np.array([0.5], np.float32), "popularity": np.array([0], np.float32)}
    unused = dict.fromkeys(lists, np.full((1, 1), "", object))
    return {**unused, **numbers, "k": np.int32(k), "allow_seen": [False]}


def _example(user_id: str) -> bytes:
    values = tf.train.BytesList(value=[user_id.encode("utf-8")])
    features = tf.train.Features(feature={"user_id": tf.train.Feature(bytes_list=values)})
    return bytes(tf.train.Example(features=features).SerializeToString())
