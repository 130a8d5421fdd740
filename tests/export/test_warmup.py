"""Warm-up records: what is in them, and that a model that can't answer them is refused."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import make_bundle, save_function
from tensorflow_serving.apis import prediction_log_pb2

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.layout import WARMUP_FILE
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.warmup import replay_warmup, warmup_requests, write_warmup

BUNDLE = make_bundle()


@pytest.fixture(scope="module")
def saved_half(tmp_path_factory):
    """Half of x, NaN below zero."""
    return save_function(tmp_path_factory.mktemp("half"), "half", lambda x: {"y": tf.sqrt(x) * tf.sqrt(x) / 2})


@pytest.fixture
def model_dir(saved_half, tmp_path):
    return shutil.copytree(saved_half, tmp_path / "1")


def requests_of(model_dir):
    records = tf.data.TFRecordDataset(str(model_dir / WARMUP_FILE)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]


@pytest.mark.parametrize("model", ["hqgnn", "hqgnn_scann"])
def test_every_signature_is_warmed_up_at_two_batch_sizes(tmp_path, model):
    if model == "hqgnn":
        path = export_exact(BUNDLE, tmp_path, ExportConfig(), 1)
    else:
        path = export_scann(BUNDLE, tmp_path, ExportConfig(), RetrievalConfig(), 1)
    requests = requests_of(path)
    names = {request.model_spec.name for request in requests}
    batches = {
        (
            request.model_spec.signature_name,
            max(value.tensor_shape.dim[0].size for value in request.inputs.values() if value.tensor_shape.dim),
        )
        for request in requests
    }
    signatures = load_saved_model(path).signatures
    assert names == {model}
    assert batches == {(name, size) for name in signatures for size in (1, 16)}
    for request in requests:
        signature = signatures[request.model_spec.signature_name]
        assert set(request.inputs) == set(signature.structured_input_signature[1])
    assert replay_warmup(path) == len(requests) == 24


def test_requests_repeat_what_there_is_and_end_with_an_unknown_user():
    requests = dict(warmup_requests(np.array(["ann", "bob"], object), np.array(["x"], object), 3, (4,)))
    assert requests["serving_default"]["user_id"].tolist() == ["ann", "bob", "ann", ""]
    assert requests["recommend"]["k"] == 3
    assert requests["recommend"]["exclude_item_id"].tolist() == [["x"]] * 4
    assert requests["recommend"]["category"].tolist() == [""] * 4
    assert requests["recommend_for_history"]["history_item_id"].tolist() == [["x"]] * 4


def test_replay_answers_each_record(model_dir):
    write_warmup(model_dir, "half", [("half", {"x": np.ones(n, np.float32)}) for n in (1, 2, 3)])
    assert replay_warmup(str(model_dir)) == 3


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("third", {"x": np.ones(1, np.float32)}, "record 2: no signature third, the model has half"),
        ("", {"x": np.ones(1, np.float32)}, "record 2: no signature serving_default"),
        ("half", {"z": np.ones(1, np.float32)}, "record 2: .*z"),
        ("half", {"x": np.ones(1, np.int64)}, "record 2: .*int64"),
        ("half", {"x": np.full(1, -1, np.float32)}, "record 2: the output y of half holds NaN"),
    ],
)
def test_a_record_that_cannot_be_answered(model_dir, signature, inputs, message):
    write_warmup(model_dir, "half", [("half", {"x": np.ones(1, np.float32)}), (signature, inputs)])
    with pytest.raises(ValueError, match=message):
        replay_warmup(model_dir)


def test_records_of_another_kind(model_dir):
    write_warmup(model_dir, "half", [])
    for log, message in ((prediction_log_pb2.PredictionLog(), "nothing"), (_classify_log(), "classify_log")):
        with tf.io.TFRecordWriter(str(model_dir / WARMUP_FILE)) as writer:
            writer.write(log.SerializeToString())
        with pytest.raises(ValueError, match=f"record 1: expected a predict_log, got {message}"):
            replay_warmup(model_dir)


def test_no_records(model_dir):
    with pytest.raises(ValueError, match=r"no warm-up records: expected the file assets.extra/tf_serving_warmup"):
        replay_warmup(model_dir)
    write_warmup(model_dir, "half", [])
    with pytest.raises(ValueError, match="holds 0 records, a server takes 1 to 1000"):
        replay_warmup(model_dir)


def test_too_many_records(model_dir):
    write_warmup(model_dir, "half", [("half", {"x": np.ones(1, np.float32)})] * 1001)
    with pytest.raises(ValueError, match="holds 1001 records, a server takes 1 to 1000: export it again"):
        replay_warmup(model_dir)


def test_a_damaged_file(model_dir):
    write_warmup(model_dir, "half", [("half", {"x": np.ones(1, np.float32)})])
    path = model_dir / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"records are damaged: .*/tf_serving_warmup_requests: cut off in record 1"):
        replay_warmup(model_dir)


def _classify_log():
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.name = "half"
    return log


def test_a_compiled_search_is_compiled_before_the_first_request(tmp_path):
    """For each of the sizes that batches of up to 64 are filled up to."""
    path = export_exact(BUNDLE, tmp_path, ExportConfig(jit_compile=True), version=1)
    asked = [one.inputs["user_id"] for one in requests_of(path) if one.model_spec.signature_name == "recommend"]
    sizes = [tf.make_ndarray(users).size for users in asked]
    assert sizes == [1, 4, 16, 64]
    assert replay_warmup(path) == 48
