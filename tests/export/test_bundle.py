"""What the exported models answer, against an oracle in NumPy."""

import base64
import dataclasses
import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from export_oracle import CATEGORIES, UNAVAILABLE, Oracle, check_row, make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.layout import MAX_PADDED_K, METADATA_FILE
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.module import ServingModule
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.histories import HistoryEncoder
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.rows import Float32Rows
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

DEFAULT_K = 4
CONFIG = ExportConfig(default_k=DEFAULT_K)
BUNDLE = make_bundle()
ORACLE = Oracle(BUNDLE)
USERS = st.lists(st.sampled_from([*BUNDLE.user_ids, "nobody", "", "u0 "]), max_size=5)
WANTED = st.sampled_from(["", "", *CATEGORIES, "no such"])
EXCLUDED = st.sampled_from([*BUNDLE.item_ids, "nothing", "", ""])


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    out = tmp_path_factory.mktemp("export")
    assert export_exact(BUNDLE, out, CONFIG, version=1) == out / "hqgnn" / "1"
    assert export_scann(BUNDLE, out, CONFIG, RetrievalConfig(), version=1) == out / "hqgnn_scann" / "1"
    all_leaves = RetrievalConfig(num_leaves=5, num_leaves_to_search=5, reorder=1)
    export_scann(BUNDLE, out, CONFIG, all_leaves, version=2)
    return out


@pytest.fixture(scope="module", params=["hqgnn/1", "hqgnn_scann/1", "hqgnn_scann/2"])
def signatures(request, export_dir):
    model = load_saved_model(export_dir / request.param)
    yield model.signatures
    del model


def strings(values, *shape):
    return tf.reshape(tf.constant(list(values), tf.string), shape)


def _example(user_id):
    values = tf.train.BytesList(value=[user_id.encode()])
    features = tf.train.Features(feature={"user_id": tf.train.Feature(bytes_list=values)})
    return tf.train.Example(features=features).SerializeToString()


def padded(lists):
    """Lists of ids of any lengths as string [B, longest]."""
    width = max(map(len, lists), default=0)
    return strings([name for names in lists for name in names + [""] * (width - len(names))], len(lists), width)


def recommend(signatures, users, k, excluded, categories=None):
    """Calls `recommend`; `excluded` are lists of ids of any lengths."""
    return signatures["recommend"](
        user_id=strings(users, len(users)),
        k=tf.constant(k),
        exclude_item_id=padded(excluded),
        category=tf.constant(categories or [""] * len(users), tf.string),
    )


@settings(max_examples=40, deadline=None)
@given(USERS, st.sampled_from([0, 1, 5, 40, 55]), st.data())
def test_recommend_is_brute_force_without_seen_and_excluded(signatures, users, k, data):
    excluded = [data.draw(st.lists(EXCLUDED, max_size=8)) for _ in users]
    categories = [data.draw(WANTED) for _ in users]
    outputs = recommend(signatures, users, k, excluded, categories)
    assert outputs["score"].shape == outputs["item_id"].shape == (len(users), k)
    assert outputs["known_user"].numpy().tolist() == [user in ORACLE.user_rows for user in users]
    for row, (user, names, category) in enumerate(zip(users, excluded, categories)):
        check_row(outputs, row, k, ORACLE.recommend(user, k, names, category))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(EXCLUDED, max_size=7), st.lists(EXCLUDED, max_size=3), WANTED), max_size=4),
    st.sampled_from([0, 1, 6, 55]),
)
def test_recommend_for_history_is_one_hop_and_the_map_of_least_squares(signatures, asked, k):
    histories, excluded, categories = zip(*asked) if asked else ((), (), ())
    outputs = signatures["recommend_for_history"](
        history_item_id=padded(histories),
        k=tf.constant(k),
        exclude_item_id=padded(excluded),
        category=strings(categories, len(asked)),
    )
    known = [[name for name in names if name in ORACLE.item_rows] for names in histories]
    assert outputs["known_user"].numpy().tolist() == [bool(names) for names in known]
    unknown = [sum(name not in ("", *names) for name in history) for history, names in zip(histories, known)]
    assert outputs["num_unknown"].numpy().tolist() == unknown
    for row, (history, names, category) in enumerate(asked):
        check_row(outputs, row, k, ORACLE.for_history(history, k, names, category))


def test_every_user_by_default(signatures):
    users = [*BUNDLE.user_ids, "nobody"]
    examples = [_example(user) for user in users]
    plain = signatures["serving_default"](user_id=strings(users, len(users)))
    parsed = signatures["tf_example"](examples=tf.constant(examples))
    assert {name: (value.dtype, value.shape.rank) for name, value in plain.items()} == {
        "item_id": (tf.string, 2),
        "score": (tf.float32, 2),
        "num_valid": (tf.int32, 1),
        "known_user": (tf.bool, 1),
    }
    for outputs in (plain, parsed):
        for row, user in enumerate(users):
            check_row(outputs, row, DEFAULT_K, ORACLE.recommend(user, DEFAULT_K))
    num_valid = plain["num_valid"].numpy()
    assert num_valid[[ORACLE.user_rows[BUNDLE.user_ids[row]] for row in (0, 1, 2)]].tolist() == [DEFAULT_K, 0, 2]


def test_an_example_without_a_user_is_an_unknown_user(signatures):
    outputs = signatures["tf_example"](examples=tf.constant([tf.train.Example().SerializeToString()]))
    assert outputs["known_user"].numpy().tolist() == [False]
    check_row(outputs, 0, DEFAULT_K, ORACLE.recommend("", DEFAULT_K))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse example"):
        signatures["tf_example"](examples=tf.constant([b"no example"]))


@pytest.fixture(scope="module")
def server(export_dir):
    with Server(export_dir, grpc_port=0, rest_port=0) as server:
        yield server


@pytest.mark.parametrize("content", [b"no example", b"\xff\xfe\x80 no example", b"\x0a\xff", b"\xed\xa0\x80"])
def test_bytes_that_are_no_example_are_a_client_s_mistake(server, content, caplog):
    """TensorFlow's message quotes them. Where they aren't UTF-8, Python can't decode it: that came out as INTERNAL."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "hqgnn", "tf_example"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([content]))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        with pytest.raises(grpc.RpcError) as refused:
            predict(request, timeout=60)
    body = json.dumps({"signature_name": "tf_example", "inputs": [{"b64": base64.b64encode(content).decode()}]})
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict"
    post = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as over_rest:
        urllib.request.urlopen(post, timeout=60)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith("Could not parse example input, value: '")
    assert over_rest.value.code == 400
    assert json.loads(over_rest.value.read())["error"].startswith("Could not parse example input, value: '")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("k", [0, 3, 60])
def test_similar_items(signatures, k):
    items = [*BUNDLE.item_ids, "nothing", ""]
    outputs = signatures["similar_items"](item_id=strings(items, len(items)), k=tf.constant(k))
    assert outputs["score"].shape == outputs["item_id"].shape == (len(items), k)
    assert outputs["known_item"].numpy().tolist() == [True] * len(BUNDLE.item_ids) + [False, False]
    for row, item in enumerate(items):
        check_row(outputs, row, k, ORACLE.similar(item, k))
    available = len(BUNDLE.item_ids) - len(UNAVAILABLE)
    others = [available - (row not in UNAVAILABLE) for row in range(len(BUNDLE.item_ids))]
    assert outputs["num_valid"].numpy()[:-2].tolist() == [min(k, count) for count in others]


def test_the_searchers_of_models_in_one_process_are_not_mixed_up(export_dir):
    """ScaNN's resources go by name: the index of cosines must not answer from that of inner products, or version 1."""
    items = BUNDLE.item_ids
    for version in ("1", "2"):
        signatures = load_saved_model(export_dir / "hqgnn_scann" / version).signatures
        recommend(signatures, ["u0"], 3, [[]])
        outputs = signatures["similar_items"](item_id=strings(items, len(items)), k=tf.constant(3))
        for row, item in enumerate(items):
            check_row(outputs, row, 3, ORACLE.similar(item, 3))


def test_embed_user(signatures):
    outputs = signatures["embed_user"](user_id=strings(["nobody", BUNDLE.user_ids[7]], 2))
    assert outputs["known_user"].numpy().tolist() == [False, True]
    np.testing.assert_array_equal(outputs["embedding"], [np.zeros(6), BUNDLE.users[7]])


def test_no_rows_at_all(signatures):
    nobody = strings([], 0)
    for name, outputs in {
        "serving_default": signatures["serving_default"](user_id=nobody),
        "recommend": recommend(signatures, [], 3, []),
        "recommend_for_history": signatures["recommend_for_history"](
            history_item_id=padded([]), k=tf.constant(3), exclude_item_id=padded([]), category=nobody
        ),
        "similar_items": signatures["similar_items"](item_id=nobody, k=tf.constant(3)),
        "embed_user": signatures["embed_user"](user_id=nobody),
        "tf_example": signatures["tf_example"](examples=nobody),
    }.items():
        assert {value.shape[0] for value in outputs.values()} == {0}, name


@pytest.mark.parametrize("k", [-1, MAX_PADDED_K + 1])
def test_k_out_of_range(signatures, k):
    message = f"k must be from 0 to {MAX_PADDED_K} .the catalogue has 40 items., got.*{k}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        recommend(signatures, ["u0"], k, [[]])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["similar_items"](item_id=strings(["i0"], 1), k=tf.constant(k))


def test_excluded_items_for_another_number_of_users(signatures):
    message = "exclude_item_id must have a row for each row of user_id"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        recommend(signatures, ["u0", "u1"], 2, [["i0"]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="category must have a row for each row of user_id"):
        recommend(signatures, ["u0", "u1"], 2, [[], []], ["film"] * 3)


def test_one_trace_serves_every_batch_size():
    module = ServingModule(
        user_ids=BUNDLE.user_ids,
        item_ids=BUNDLE.item_ids,
        users=Float32Rows(BUNDLE.users),
        items=(items := Float32Rows(BUNDLE.items)),
        top_k=ExactTopK(items),
        seen=BUNDLE.seen,
        popularity=BUNDLE.item_popularity,
        history=HistoryEncoder(items, BUNDLE.user_hop_map),
        item_filter=ItemFilter(items.num_rows),
        default_k=DEFAULT_K,
    )
    for batch in (1, 7, 0, 3):
        users, excluded = tf.fill([batch], "u1"), tf.fill([batch, batch + 1], "i1")
        module.serving_default(users)
        module.recommend(users, tf.constant(batch), excluded, users)
        module.recommend_for_history(excluded, tf.constant(batch), excluded, users)
        module.recommend_with_history(users, excluded, tf.constant(batch), excluded, users)
        module.similar_items(users, tf.constant(batch))
        module.similar_users(users, tf.constant(batch))
        module.score(users, excluded)
        module.explain(users, users, tf.constant(batch))
        module.rerank(users, excluded, tf.constant(batch), tf.fill([batch], True))
        numbers = tf.fill([batch], 0.5)
        lists = (excluded,) * 4
        module.recommend_where(users, tf.constant(batch), *lists, tf.fill([batch], True), numbers, numbers)
        module.embed_user(users)
        module.tf_example(tf.fill([batch], b""))
    assert {name: f.experimental_get_tracing_count() for name, f in module.signatures().items()} == {
        "serving_default": 1,
        "recommend": 1,
        "recommend_for_history": 1,
        "recommend_with_history": 1,
        "similar_items": 1,
        "similar_users": 1,
        "score": 1,
        "rerank": 1,
        "recommend_where": 1,
        "explain": 1,
        "embed_user": 1,
        "tf_example": 1,
    }


def test_metadata(export_dir):
    assert json.loads((export_dir / "hqgnn_scann" / "2" / METADATA_FILE).read_text()) == {
        "model": "hqgnn_scann",
        "num_users": 30,
        "num_items": 40,
        "embedding_dim": 6,
        "bits": None,
        "user_bits": None,
        "bytes_per_item": 28,
        "bytes_per_user": 28,
        "scoring": "float32",
        "by_blocks": False,
        "users_by_blocks": False,
        "default_k": DEFAULT_K,
        "export": {"default_k": DEFAULT_K, "device": "any", "jit_compile": False},
        "retrieval": {
            "index": "auto",
            "num_leaves": 5,
            "num_leaves_to_search": 5,
            "reorder": 1,
            "target_recall": 0.98,
        },
        "index": "ScannTopK",
        "exact": False,
        "num_leaves": 5,
        "num_leaves_to_search": 5,
        "reorder": 1,
        "recall@100": 1.0,
    }


def test_scores_that_float32_can_not_hold_are_refused():
    large = dataclasses.replace(BUNDLE, users=np.full_like(BUNDLE.users, 1e20))
    with pytest.raises(InputError, match=r"scores may be as large as \de\+\d+, and float32 ends at 3e\+38: divide"):
        dataclasses.replace(large, items=np.full_like(BUNDLE.items, 1e20))
