import sys

import numpy as np
import pytest

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tf_hqgnn.data.tfrecord_file import masked_checksums
from tf_hqgnn.export.layout import WARMUP_FILE
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.loader import load_version


def warm_up(path, records):
    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for record in records:
            writer.write(record)


def predict_log(signature, **inputs):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def test_a_loaded_version_answers(publish):
    path = publish(3)
    warm_up(path, [predict_log("serving_default", user_id=["a"]), predict_log("one_output", value=[1.0])])
    loaded = load_version(path, 3)
    assert loaded.version == 3
    outputs = loaded.predict("", {"user_id": np.array([b"a"], object)})
    assert outputs["item_id"].tolist() == [[b"100-0", b"100-1", b"100-2"]]
    assert {"serving_default", "recommend", "similar_items"} <= set(loaded.definitions)
    with pytest.raises(ServingError, match='Serving signature key "x" not found') as caught:
        loaded.predict("x", {})
    assert caught.value.code.name == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([predict_log("serving_default", user_id=["a"]), predict_log("x")], 'warm-up record 2 .*key "x" not found'),
        ([predict_log("serving_default", user_id=[1])], "warm-up record 1 .*to be string but int32"),
        (
            [prediction_log_pb2.PredictionLog().SerializeToString()],
            "expected a predict_log, got an empty PredictionLog",
        ),
        ([b"\xff\xff"], "Failed to parse warmup record"),
        ([predict_log("one_output", value=[1.0])] * 1001, r"exceeds the maximum \(1000\)"),
    ],
)
def test_a_failing_warm_up_record_fails_the_load(publish, records, message):
    path = publish(1)
    warm_up(path, records)
    with pytest.raises(ServingError, match=message):
        load_version(path, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"this is not a TFRecord at all",
        # A length of 2^40 with its right checksum: TensorFlow's reader ends the process for want of memory.
        b"\0\0\0\0\0\1\0\0" + masked_checksums([b"\0\0\0\0\0\1\0\0"])[0].to_bytes(4, "little"),
    ],
)
def test_warm_up_that_is_no_tfrecord_fails_the_load(publish, content):
    path = publish(1)
    warm_up(path, [])
    (path / WARMUP_FILE).write_bytes(content)
    with pytest.raises(ServingError, match="verify your warmup data is in TFRecord format") as caught:
        load_version(path, 1)
    assert caught.value.code.name == "DATA_LOSS"


def test_broken_saved_models_fail_in_words(publish):
    path = publish(1)
    file = path / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ServingError, match="is damaged or cut short") as caught:
        load_version(path, 1)
    assert caught.value.code.name == "DATA_LOSS"
    file.write_bytes(b"")
    with pytest.raises(ServingError, match='has no graph tagged "serve"'):
        load_version(path, 1)
    file.unlink()
    with pytest.raises(ServingError, match="Could not find SavedModel") as caught:
        load_version(path, 1)
    assert caught.value.code.name == "NOT_FOUND"
    file.mkdir()
    with pytest.raises(ServingError, match="can't be read: Is a directory"):
        load_version(path, 1)
    file.rmdir()
    file.write_bytes(content)
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(ServingError):
        load_version(path, 1)


def test_a_scann_model_without_scann_says_what_to_install(publish, monkeypatch):
    path = publish(1)
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="searcher", op="Scann>ScannSearchBatched")
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(ServingError, match=r"pip install 'tf_hqgnn\[scann\]'") as caught:
        load_version(path, 1)
    assert caught.value.code.name == "FAILED_PRECONDITION"
