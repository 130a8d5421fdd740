"""Search by 8-bit integer products: against arithmetic that doesn't round, and where a machine hasn't got them."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import coded, make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.exact_scores import exact_scores, ranking, rounded

import tf_hqgnn.export.bundle
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.packing import pack
from tf_hqgnn.retrieval import int8_products
from tf_hqgnn.retrieval.bit_planes import pack_words, spread_columns, spread_words, to_bytes
from tf_hqgnn.retrieval.blocks import PART_SIZE
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.queries import Queries, QueryCodes

pytestmark = pytest.mark.integration

N, D = 64 * 50 + 7, 16
RNG = np.random.default_rng(8)
# Many lengths, and twins in blocks that are far from one another.
ITEMS = RNG.normal(size=(N, D)) * np.exp(RNG.normal(size=(N, 1)))
ITEMS[N // 2 : N // 2 + 20] = ITEMS[:20]
USERS = RNG.normal(size=(6, D))
AVAILABLE = np.random.default_rng(9).random(N) < 0.4
# Bits of items and users, whether some items never come back, and whether XLA unpacks the codes.
KINDS = [(8, 8, False, False), (8, 7, True, False), (4, 4, True, False), (2, 8, False, True)]


@tf.function(autograph=False)
def works_here(batch):
    """What a model finds out when it is asked."""
    is_exact = int8_products.called_late(lambda: int8_products.is_exact(D, batch))
    return tf.cond(int8_products.is_available(batch), is_exact, lambda: tf.constant(False))


HAS_PRODUCTS = bool(works_here(tf.constant(3)))
needs_products = pytest.mark.skipif(not HAS_PRODUCTS, reason="this processor has no exact products of 8-bit integers")


@needs_products
@pytest.mark.parametrize(("dim", "batch"), [(1, 1), (8, 3), (64, 32), (256, 1), (int8_products.MOST_DIMENSIONS, 2)])
def test_products_are_exact_at_their_ends(dim, batch):
    codes = RNG.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (300, dim))
    weights = RNG.choice(np.array([-128, -127, -1, 0, 1, 127], np.int8), (dim, batch))
    codes[0], weights[:, 0] = 255, -128
    added = RNG.integers(-255 * 64 * dim, 255 * 64 * dim, batch).astype(np.int32)
    found = tf.function(int8_products.products)(tf.constant(codes), tf.constant(weights), tf.constant(added))
    np.testing.assert_array_equal(found, codes.astype(int) @ weights.astype(int) + added)


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_weights_stand_for_the_levels_of_queries(num_bits):
    codes = RNG.integers(0, 2**num_bits, (5, D)).astype(np.uint8)
    rows = RNG.integers(0, 256, (9, D))
    asked = QueryCodes(tf.constant(codes), num_bits, tf.ones([5]), None)
    weights, added = (values.numpy().astype(int) for values in int8_products.weights_of(asked))
    exact = (2 * rows - 255) @ (2 * codes.astype(int) - (2**num_bits - 1)).T
    sums = (2 * rows - 255).sum(axis=1, keepdims=True)
    found = 4 * (rows @ weights + added) + sums if num_bits == 8 else 2 * (rows @ weights + added)
    unit = 4 if num_bits == 8 else 2
    assert (exact <= found).all()
    assert (found - exact <= unit / 2).all()


@pytest.fixture(scope="module", params=KINDS, ids=str)
def search(request):
    """`(search, exact)`: by products; and the scores of every user, exact but for one rounding, -inf if left out."""
    item_bits, user_bits, filtered, jit_compile = request.param
    items, users = Codes.quantize(ITEMS, item_bits), Codes.quantize(USERS, user_bits)
    top_k = ExactTopK(make_rows(items, by_blocks=True, for_cpu=True), jit_compile)
    queries = make_rows(users, by_blocks=False)
    item_filter = ItemFilter(N, AVAILABLE if filtered else None)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None, None], tf.int64),
        ],
        autograph=False,
    )
    def search(user_index, k, listed):
        return top_k.call(queries.queries(user_index), k, block_listed(listed, N).within(item_filter))

    exact = np.array([[rounded(score) for score in exact_scores(users, items, row)] for row in range(len(USERS))])
    return search, np.where(AVAILABLE | (not filtered), exact, -np.inf)


@settings(max_examples=6, deadline=None)
@given(
    users=st.one_of(st.just([]), st.integers(0, 5).map(lambda user: [user]), st.permutations(range(6))),
    k=st.sampled_from([0, 1, 6]),
    seed=st.integers(0, 100),
)
def test_answers_are_those_of_exact_scores(search, users, k, seed):
    search, exact = search
    listed = np.random.default_rng(seed).integers(-1, 40, (len(users), 3))
    scores, rows = search(np.array(users, np.int32), np.int32(k), listed)
    for user, blocked, found, items in zip(users, listed, scores.numpy(), rows.numpy()):
        expected = exact[user].copy()
        expected[blocked[blocked >= 0]] = -np.inf
        best = ranking(expected)[:k]
        assert items.tolist() == best
        np.testing.assert_array_equal(found, expected[best])


@needs_products
def test_the_quick_way_is_taken():
    """Or the test above would show nothing."""
    users = make_rows(Codes.quantize(USERS, 8), by_blocks=False)
    for bits, jit_compile in ((8, False), (4, False), (2, True)):
        table = make_rows(Codes.quantize(ITEMS, bits), by_blocks=True, for_cpu=True)
        parts, is_sure = table.likely_parts(users.queries(tf.range(6)), False, None, tf.constant(3), jit_compile)
        assert is_sure
        best = np.reshape(table.score_all(users.queries(tf.range(6)))[:, : N // 64 * 64], [6, -1, PART_SIZE]).max(
            axis=2
        )
        for row, found in zip(best, parts.numpy()):
            assert set(np.argsort(-row)[:3]) <= set(found)


@pytest.mark.parametrize(("num_bits", "dim"), [(1, 8), (1, 64), (2, 24), (4, 16), (4, 128)])
def test_words_that_are_spread_are_the_codes(num_bits, dim):
    codes, factor = RNG.integers(0, 2**num_bits, (9, dim)).astype(np.uint8), 255 // (2**num_bits - 1)
    words = [[tf.constant(word) for word in plane] for plane in pack_words(codes, num_bits)]
    found = np.reshape(to_bytes(spread_words(words, factor)), [9, dim])
    np.testing.assert_array_equal(found, (codes * factor)[:, spread_columns(dim)])


def test_where_scores_are_as_good_as_equal_it_is_not_sure():
    users = make_rows(Codes.quantize(USERS, 8), by_blocks=False)
    same = make_rows(Codes.quantize(np.ones((N, D)), 8), by_blocks=True, for_cpu=True)
    queries = users.queries(tf.range(6))
    assert not same.likely_parts(queries, False, None, tf.constant(3))[1]
    table = make_rows(Codes.quantize(ITEMS, 8), by_blocks=True, for_cpu=True)
    zero = Queries.of_codes(QueryCodes(queries.codes.codes, 8, tf.constant([1, 1, 1, 1, 1, 0.0]), None))
    assert not table.likely_parts(zero, False, None, tf.constant(3))[1]
    assert ExactTopK(table).call(zero, tf.constant(3))[1][5].numpy().tolist() == [0, 1, 2]


def test_tables_that_have_no_such_search():
    queries = make_rows(Codes.quantize(USERS, 8)).queries(tf.range(6))
    odd = Codes.quantize(ITEMS, 8, symmetric=False)
    wide = Codes(pack(np.zeros((70, 400), np.uint8), 8), np.ones(1, np.float16), None, 8, 400)
    tables = [make_rows(Codes.quantize(ITEMS, 3), True, True), make_rows(odd, True, True), make_rows(wide, True, True)]
    tables += [make_rows(Codes.quantize(ITEMS, 8), True), make_rows(Codes.quantize(ITEMS, 8), False, True)]
    tables.append(make_rows(ITEMS, True, True))
    assert [table.likely_parts(queries, False, None, tf.constant(3)) for table in tables] == [None] * len(tables)
    table = make_rows(Codes.quantize(ITEMS, 8), True, True)
    assert table.likely_parts(Queries(tf.constant(USERS, tf.float32)), False, None, tf.constant(3)) is None
    assert table.bytes_per_row == D + 2 + 4
    # XLA's pass over bits is quicker.
    signs = make_rows(Codes.quantize(ITEMS, 1), True, True)
    one_bit = make_rows(Codes.quantize(USERS, 1)).queries(tf.range(6))
    assert signs.likely_parts(one_bit, False, None, tf.constant(3), jit_compile=True) is None
    assert signs.likely_parts(queries, False, None, tf.constant(3), jit_compile=True) is not None


# Prints the answers of a model, by the loader of sessions, as TensorFlow Serving loads it.
READER = """
import sys
sys.modules["tf_hqgnn"] = None
import tensorflow as tf
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signature = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    outputs = {name: output.name for name, output in signature.outputs.items()}
    answer = session.run(outputs, {signature.inputs["user_id"].name: sys.argv[2:]})
print([answer["item_id"].tolist(), answer["score"].tolist()])
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`(folders, users)`: of the same model, by the device that it was exported for."""
    bundle, folders = make_bundle(num_items=64 * 150, dim=64), {}
    bundle = dataclasses.replace(bundle, users=coded(bundle.users, 8), items=coded(bundle.items, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_hqgnn.retrieval.coded_rows.BY_BLOCKS_FROM", 1)
        # All signatures take a while to trace, and search alike.
        make = tf_hqgnn.export.bundle.make_module

        def make_small(*arguments):
            module = make(*arguments)
            module.keep(("serving_default",))
            return module

        patch.setattr(tf_hqgnn.export.bundle, "make_module", make_small)
        for device in ("any", "cpu", "gpu"):
            out = tmp_path_factory.mktemp(device)
            folders[device] = export_exact(bundle, out, ExportConfig(default_k=3, device=device), version=1)
    return folders, [str(user) for user in bundle.user_ids[:3]]


def test_every_device_answers_alike(exported):
    folders, users = exported
    answers = []
    for folder in folders.values():
        found = load_saved_model(folder).signatures["serving_default"](user_id=tf.constant(users))
        answers.append([found["item_id"].numpy().tolist(), found["score"].numpy().tolist()])
    assert answers[0] == answers[1] == answers[2]


def test_only_an_export_for_cpus_has_the_operation(exported):
    has = {
        device: b"QuantizedMatMul" in (folder / "saved_model.pb").read_bytes() for device, folder in exported[0].items()
    }
    assert has == {"any": False, "cpu": True, "gpu": False}


@pytest.mark.parametrize("setting", ["TF_ENABLE_ONEDNN_OPTS=0", "ONEDNN_MAX_CPU_ISA=AVX2"])
def test_an_export_for_cpus_answers_where_there_are_no_such_products(exported, setting):
    folders, users = exported
    name, value = setting.split("=")
    command = [sys.executable, "-W", "ignore", "-c", READER, str(folders["cpu"]), *users]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", name: value}
    process = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
    assert process.returncode == 0, process.stderr
    found = load_saved_model(folders["any"]).signatures["serving_default"](user_id=tf.constant(users))
    expected = [found["item_id"].numpy().tolist(), found["score"].numpy().tolist()]
    assert process.stdout.splitlines()[-1] == str(expected)
