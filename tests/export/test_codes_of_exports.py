"""SavedModels of codes: what they answer, against exact arithmetic, and what they take on disk."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import Oracle, check_row, coded, coded_bundle, make_bundle, values
from few_signatures import export_only

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact, export_scann
from tf_hqgnn.export.layout import METADATA_FILE
from tf_hqgnn.export.loading import load_saved_model

K = 7
ASYMMETRIC, SHARED = {"symmetric": False}, {"per_tensor": True}
CASES = [
    (1, 1, 13, {}),
    (1, 1, 64, ASYMMETRIC),
    (1, None, 13, {}),
    (2, 8, 12, ASYMMETRIC),
    (4, 4, 20, SHARED),
    (8, 8, 6, ASYMMETRIC | SHARED),
]


# tests/export/test_requests.py looks at the others, with codes of every kind.
@pytest.fixture(scope="module", autouse=True)
def few_signatures():
    with pytest.MonkeyPatch.context() as patch:
        export_only(patch, "serving_default", "tf_example", "recommend", "embed_user", "similar_items")
        yield


def of(bundle, tmp_path, leaves=False):
    """`(path, signatures)` of an export of `bundle`, with ScaNN if `leaves`."""
    config = ExportConfig(default_k=K)
    if leaves:
        all_leaves = RetrievalConfig(num_leaves=3, num_leaves_to_search=3)
        path = export_scann(bundle, tmp_path, config, all_leaves, version=1)
    else:
        path = export_exact(bundle, tmp_path, config, version=1)
    return path, load_saved_model(path).signatures


def strings(values):
    return tf.constant(list(values), tf.string)


def _example(user_id):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user_id.encode()]))
    return tf.train.Example(features=tf.train.Features(feature={"user_id": feature})).SerializeToString()


@pytest.mark.parametrize(("bits", "user_bits", "dim", "options"), CASES)
def test_every_signature_answers_as_exact_arithmetic(tmp_path, bits, user_bits, dim, options):
    bundle = coded_bundle(bits, user_bits, dim, **options)
    oracle = Oracle(bundle)
    path, signatures = of(bundle, tmp_path)
    _check(signatures, bundle, oracle)
    metadata = json.loads((path / METADATA_FILE).read_text())
    assert (metadata["bits"], metadata["user_bits"]) == (bits, user_bits)
    assert metadata["scoring"] == ("float32" if user_bits is None else "integer")


@pytest.mark.parametrize(("bits", "user_bits", "dim", "options"), [CASES[0], CASES[3]])
def test_scann_scores_its_candidates_from_the_codes(tmp_path, bits, user_bits, dim, options):
    bundle = coded_bundle(bits, user_bits, dim, **options)
    _, signatures = of(bundle, tmp_path, leaves=True)
    _check(signatures, bundle, Oracle(bundle))


def _check(signatures, bundle, oracle):
    users, items = [*bundle.user_ids, "nobody"], [*bundle.item_ids, "nothing"]
    excluded = bundle.item_ids[[3, 5]]
    # One at a time, and many: the sizes of batches for which scores are found in different ways.
    for some in (users, users[4:5]):
        padded = tf.constant(np.tile(excluded, (len(some), 1)), tf.string)
        for outputs, exclude in (
            (signatures["serving_default"](user_id=strings(some)), ()),
            (signatures["tf_example"](examples=tf.constant([_example(user) for user in some])), ()),
            (
                signatures["recommend"](
                    user_id=strings(some), k=tf.constant(K), exclude_item_id=padded, category=strings([""] * len(some))
                ),
                excluded,
            ),
        ):
            for row, user in enumerate(some):
                check_row(outputs, row, K, oracle.recommend(user, K, exclude))
        outputs = signatures["embed_user"](user_id=strings(some))
        known = [user in oracle.user_rows for user in some]
        held = values(bundle.users)[[oracle.user_rows.get(user, 0) for user in some]]
        np.testing.assert_allclose(
            outputs["embedding"], np.where(np.array(known)[:, None], held, 0), rtol=1e-5, atol=1e-6
        )
        assert outputs["known_user"].numpy().tolist() == known
    for some in (items, items[:1]):
        outputs = signatures["similar_items"](item_id=strings(some), k=tf.constant(K))
        for row, item in enumerate(some):
            check_row(outputs, row, K, oracle.similar(item, K))


def test_codes_of_one_side_only(tmp_path):
    mixed = dataclasses.replace(coded_bundle(2, 4, 9), items=make_bundle(dim=9).items)
    _, signatures = of(mixed, tmp_path)
    _check(signatures, mixed, Oracle(mixed))


N, D, U = 20_000, 64, 40


@pytest.fixture(scope="module")
def catalogue():
    rng = np.random.default_rng(0)
    return ServingBundle(
        user_ids=np.array([str(n) for n in range(U)], object),
        item_ids=np.array([str(n) for n in range(N)], object),
        users=rng.normal(size=(U, D)).astype(np.float32),
        items=rng.normal(size=(N, D)).astype(np.float32),
        seen=(np.zeros(U + 1, np.int64), np.zeros(0, np.int32)),
        item_popularity=np.ones(N, np.float32),
    )


def _bytes_on_disk(path):
    return sum(file.stat().st_size for file in (path / "variables").iterdir())


@pytest.fixture(scope="module")
def float32_bytes(catalogue, tmp_path_factory):
    """Of the exact model and of ScaNN's, in float32."""
    folder = tmp_path_factory.mktemp("float32")
    exact = export_exact(catalogue, folder, ExportConfig(), version=1)
    return _bytes_on_disk(exact), _bytes_on_disk(_scann(catalogue, folder))


def _scann(bundle, folder):
    leaves = RetrievalConfig(num_leaves=20, num_leaves_to_search=2)
    return export_scann(bundle, folder, ExportConfig(), leaves, version=1)


@pytest.mark.parametrize("bits", [1, 8])
def test_saved_models_shrink_by_what_codes_save(catalogue, float32_bytes, tmp_path, bits):
    """Ids, popularity and the hashes of ScaNN are the same with codes; all else that a model holds is its rows."""
    codes = coded(catalogue.items, bits)
    bundle = dataclasses.replace(catalogue, items=codes, users=coded(catalogue.users, bits))
    saved = (N + U) * (4 * D + 4 - codes.bytes_per_item)
    for path, before in zip(
        (export_exact(bundle, tmp_path, ExportConfig(), 1), _scann(bundle, tmp_path)), float32_bytes
    ):
        metadata = json.loads((path / METADATA_FILE).read_text())
        assert metadata["bytes_per_item"] == metadata["bytes_per_user"] == codes.bytes_per_item == D * bits / 8 + 2
        assert abs(before - _bytes_on_disk(path) - saved) < 0.01 * before
