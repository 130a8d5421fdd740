"""What is read back from an export: write, read, write gives the same model; exports of version 0.1 are read."""

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import BLANK_OF_0_1, CATEGORIES, Oracle, check_row, coded_bundle, make_bundle, without_dislikes
from few_signatures import export_only

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact, export_scann
from tf_hqgnn.export.layout import METADATA_FILE
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import InputError

# `export_exact` and `export_scann` of `coded_bundle(4, 4, dim=20, per_tensor=True)` by version 0.1, with default_k 6,
# jit_compile for the exact model, 5 leaves of which 5 are searched for the other.
EXPORT_OF_0_1 = Path(__file__).parent / "data" / "export_of_0_1.tar.xz"

BUNDLES = {
    "float32": make_bundle(),
    "8 bits, users float32": without_dislikes(coded_bundle(8, None)),
    "8 bits": coded_bundle(8, 8, symmetric=False),
    "4 bits, one range": coded_bundle(4, 4, dim=20, per_tensor=True),
    "2 bits, ranges with offsets": coded_bundle(2, 2, dim=9, symmetric=False),
    "2 bits, users 8": coded_bundle(2, 8, dim=9),
    "1 bit": coded_bundle(1, 1, dim=64),
    "1 bit, one range with an offset": coded_bundle(1, 1, dim=5, per_tensor=True, symmetric=False),
    "stored by blocks": coded_bundle(4, 4),
}
# To load two models and to ask both everything takes ten times as long as to read them.
ANSWERED = ("2 bits, users 8", "stored by blocks")
EVERY_ITEM = 41


@pytest.fixture(autouse=True)
def few_signatures(monkeypatch):
    export_only(monkeypatch, "recommend", "recommend_for_history", "similar_items", "embed_user")


@pytest.fixture(params=BUNDLES)
def bundle(request, monkeypatch):
    if request.param == "stored by blocks":
        monkeypatch.setattr("tf_hqgnn.retrieval.coded_rows.BY_BLOCKS_FROM", 40)
        monkeypatch.setattr("tf_hqgnn.retrieval.stored_codes.BLOCK_SIZE", 8)
        monkeypatch.setattr("tf_hqgnn.export.reader.BLOCK_SIZE", 8)
    return BUNDLES[request.param]


def same_rows(one, other):
    assert type(one) is type(other)
    if not isinstance(one, Codes):
        np.testing.assert_array_equal(one, other)
        return
    assert (one.num_bits, one.dim) == (other.num_bits, other.dim)
    for name in ("packed", "scale", "offset"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def check_is(found, bundle, of_all=True):
    """What is kept in a model is that of the bundle; categories and popularity maybe of available items alone."""
    available = np.ones(len(bundle.item_ids), bool) if bundle.item_available is None else bundle.item_available
    np.testing.assert_array_equal(found.user_ids, bundle.user_ids)
    np.testing.assert_array_equal(found.item_ids, bundle.item_ids)
    np.testing.assert_array_equal(found.item_available, bundle.item_available)
    np.testing.assert_array_equal(found.item_popularity, np.where(available | of_all, bundle.item_popularity, 0))
    if bundle.item_categories is None:
        assert found.item_categories is None
    else:
        kept, given = Oracle(found), Oracle(bundle)
        for row, is_available in enumerate(available):
            assert kept.categories(row) == (given.categories(row) if is_available or of_all else set())
    for name in ("seen", "learnt"):
        one, other = getattr(found, name), getattr(bundle, name)
        assert (one is None) == (other is None), name
        for values, expected in zip(one or (), other or ()):
            np.testing.assert_array_equal(values, expected)
    same_rows(found.users, bundle.users)
    same_rows(found.items, bundle.items)
    np.testing.assert_allclose(found.user_hop_map, Oracle(bundle).user_map(), rtol=1e-3, atol=1e-4)


def answers_of(path, bundle):
    """All answers of a model, for users and histories of every kind, with and without a category."""
    signatures = load_saved_model(path).signatures
    users = tf.constant([*bundle.user_ids, "nobody"])
    size = len(bundle.user_ids) + 1
    answers = {}
    for category in CATEGORIES:
        asked = {
            "k": tf.constant(EVERY_ITEM),
            "exclude_item_id": tf.fill([size, 1], bundle.item_ids[3]),
            "category": tf.fill([size], category),
        }
        answers["recommend", category] = signatures["recommend"](user_id=users, **asked)
        history = tf.constant(np.resize(bundle.item_ids, (size, 2)))
        answers["history", category] = signatures["recommend_for_history"](history_item_id=history, **asked)
    answers["similar", ""] = signatures["similar_items"](
        item_id=tf.constant(bundle.item_ids), k=tf.constant(EVERY_ITEM)
    )
    answers["embed", ""] = signatures["embed_user"](user_id=users)
    return {(*key, name): value.numpy() for key, outputs in answers.items() for name, value in outputs.items()}


def check_against_numpy(path, bundle):
    signatures, oracle = load_saved_model(path).signatures, Oracle(bundle)
    users = [*bundle.user_ids, "nobody"]
    for category in ("", "film"):
        outputs = signatures["recommend"](
            user_id=tf.constant(users),
            k=tf.constant(EVERY_ITEM),
            exclude_item_id=tf.fill([len(users), 1], ""),
            category=tf.fill([len(users)], category),
        )
        for row, user in enumerate(users):
            check_row(outputs, row, EVERY_ITEM, oracle.recommend(user, EVERY_ITEM, (), category))


def test_write_read_write_gives_the_same_model(bundle, tmp_path, monkeypatch):
    is_asked = any(bundle is BUNDLES[name] for name in ANSWERED)
    if not is_asked:
        export_only(monkeypatch, "embed_user")
    first = export_exact(bundle, tmp_path, ExportConfig(default_k=3), 1)
    assert json.loads((first / METADATA_FILE).read_text())["by_blocks"] == (bundle is BUNDLES["stored by blocks"])
    found = read_bundle(first)
    check_is(found, bundle)
    second = export_exact(found, tmp_path, ExportConfig(default_k=3), 2)
    assert (first / METADATA_FILE).read_text() == (second / METADATA_FILE).read_text()
    check_is(read_bundle(second), bundle)
    if not is_asked:
        return
    before, after = answers_of(first, bundle), answers_of(second, bundle)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name], err_msg=str(name))
    check_against_numpy(second, bundle)


def test_a_bundle_without_categories_and_with_every_item_available(tmp_path):
    bundle = make_bundle()
    bundle = ServingBundle(
        bundle.user_ids, bundle.item_ids, bundle.users, bundle.items, bundle.seen, bundle.item_popularity
    )
    check_is(read_bundle(export_exact(bundle, tmp_path, ExportConfig(), 1)), bundle)


def test_the_index_holds_the_same_bundle(tmp_path):
    bundle = BUNDLES["4 bits, one range"]
    retrieval = RetrievalConfig(index="scann", num_leaves=3)
    check_is(read_bundle(export_scann(bundle, tmp_path, ExportConfig(), retrieval, 1)), bundle)


def test_the_hop_map_is_that_of_the_model_and_not_fitted_again(tmp_path):
    bundle = make_bundle()
    version = export_exact(bundle, tmp_path, ExportConfig(), 1)
    found = read_bundle(version)
    other = ServingBundle(**{**vars(found), "hop_map": np.float32(2) * found.hop_map})
    np.testing.assert_array_equal(
        read_bundle(export_exact(other, tmp_path, ExportConfig(), 2)).user_hop_map, 2 * bundle.user_hop_map
    )


@pytest.mark.parametrize("model", ["hqgnn", "hqgnn_scann"])
def test_an_export_of_version_0_1_is_read_and_written_again(tmp_path, model):
    with tarfile.open(EXPORT_OF_0_1) as archive:
        archive.extractall(tmp_path)
    bundle = BUNDLES["4 bits, one range"]
    ids = {
        kind: np.array([BLANK_OF_0_1.get(one, one) for one in getattr(bundle, kind)], object)
        for kind in ("user_ids", "item_ids")
    }
    bundle = dataclasses.replace(bundle, **ids)
    found = read_bundle(tmp_path / model / "1")
    check_is(found, bundle, of_all=False)
    check_against_numpy(export_exact(found, tmp_path, ExportConfig(), 2), bundle)


@pytest.mark.parametrize("name", ["by_blocks", "bits", "embedding_dim"])
def test_metadata_that_do_not_say_how_rows_are_stored(tmp_path, name):
    version = export_exact(make_bundle(), tmp_path, ExportConfig(), 1)
    metadata = json.loads((version / METADATA_FILE).read_text())
    del metadata[name]
    (version / METADATA_FILE).write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=f"doesn't say how its rows are stored .*{name}.*: export the run again"):
        read_bundle(version)


def test_a_model_of_another_kind_is_an_error(tmp_path):
    version = export_exact(make_bundle(), tmp_path, ExportConfig(), 1)
    for path in (version / "variables").iterdir():
        path.unlink()
    tf.train.Checkpoint(other=tf.Variable(1.0)).write(str(version / "variables" / "variables"))
    with pytest.raises(InputError, match="has no variable item_ids/keys: expected a model that `tf-hqgnn export`"):
        read_bundle(version)
    (version / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match="the variables of this SavedModel can't be read"):
        read_bundle(version)
