"""Adding items to an export: what is read back, the new rows against least squares, and what is served then."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import UNAVAILABLE, Oracle, check_row, coded_bundle, make_bundle, values

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.data.interactions import InteractionTable
from tf_hqgnn.data.items import ItemCatalogue
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.new_items import add_items, extend, read_bundle
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import InputError, Interactions

BUNDLES = {
    "float32": make_bundle(),
    "1 bit": coded_bundle(1, 1, dim=64),
    "2 bits, ranges with offsets": coded_bundle(2, 8, dim=9, symmetric=False),
    "4 bits, one range": coded_bundle(4, 4, dim=20, per_tensor=True),
    "8 bits": coded_bundle(8, None),
}


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return BUNDLES[request.param]


def table(pairs):
    """A log of (user id, item id)."""
    users, items = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    index = [np.array([ids.index(pair[side]) for pair in pairs], np.int32) for side, ids in ((0, users), (1, items))]
    report = ReadReport(len(pairs), len(pairs), 0, 0)
    return InteractionTable(np.array(users, object), np.array(items, object), Interactions(*index), None, None, report)


def log_of(bundle):
    users, items = bundle.user_ids, bundle.item_ids
    return [
        (users[0], "new film"),
        (users[7], "new film"),
        (users[7], items[0]),
        (users[2], "né"),
        ("a stranger", "né"),
        ("a stranger", "nobody's"),
        ("a stranger", items[1]),
    ]


def same_rows(one, other):
    assert type(one) is type(other)
    if not isinstance(one, Codes):
        np.testing.assert_array_equal(one, other)
        return
    assert one.num_bits == other.num_bits
    for name in ("packed", "scale", "offset"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_version_is_read_back(bundle, tmp_path):
    found = read_bundle(export_exact(bundle, tmp_path, ExportConfig(), 1))
    available = bundle.item_available
    np.testing.assert_array_equal(found.user_ids, bundle.user_ids)
    np.testing.assert_array_equal(found.item_ids, bundle.item_ids)
    np.testing.assert_array_equal(found.item_available, available)
    np.testing.assert_array_equal(found.item_categories[available], bundle.item_categories[available])
    np.testing.assert_array_equal(found.item_popularity[available], bundle.item_popularity[available])
    for one, other in zip(found.seen, bundle.seen):
        np.testing.assert_array_equal(one, other)
    same_rows(found.users, bundle.users)
    same_rows(found.items, bundle.items)


def test_new_rows_are_a_hop_and_the_map_of_least_squares(bundle):
    extended, counts = extend(bundle, table(log_of(bundle)))
    assert counts == {"num_added": 2, "num_skipped": 1, "num_updated": 1, "num_unknown_users": 1}
    assert extended.item_ids[-2:].tolist() == ["new film", "né"]
    assert np.isnan(extended.item_popularity).sum() == 0
    gained = extended.item_popularity - np.append(bundle.item_popularity, [0, 0])
    assert gained.tolist() == [1.0] + [0.0] * (len(gained) - 3) + [2.0, 1.0]

    users, items = values(bundle.users).astype(np.float64), values(bundle.items)
    indptr, indices = bundle.seen
    takers = [[u for u in range(len(users)) if i in indices[indptr[u] : indptr[u + 1]]] for i in range(len(items))]
    hops = np.array([users[of].sum(axis=0) / np.sqrt(len(of)) for of in takers if of])
    targets = items[[bool(of) for of in takers]]
    dim = hops.shape[1]
    ridge = np.sqrt(1e-3 * np.square(hops).sum() / dim) * np.eye(dim)
    augmented = np.concatenate([hops, ridge]), np.concatenate([targets, np.zeros((dim, dim))])
    to_items = np.linalg.lstsq(*augmented, rcond=None)[0]
    expected = np.array([(users[0] + users[7]) / np.sqrt(2), users[2]]) @ to_items

    new = values(extended.items)[-2:]
    if isinstance(bundle.items, Codes):
        shared = len(bundle.items.scale) == 1
        offset = 0.0 if bundle.items.offset is None else bundle.items.offset[0]
        ranges = (offset - bundle.items.scale, offset + bundle.items.scale) if shared else None
        symmetric = bundle.items.offset is None
        coded = Codes.quantize(expected, bundle.items.num_bits, symmetric=symmetric, ranges=ranges)
        # A value at the border of two levels may fall to either side.
        assert np.mean(np.isclose(new, coded.dequantize(), rtol=2e-3, atol=2e-3)) > 0.95
    else:
        np.testing.assert_allclose(new, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(values(extended.items)[:-2], values(bundle.items))
    assert extended.seen_matrix()[7].indices.tolist() == sorted(
        {*bundle.seen_matrix()[7].indices.tolist(), 0, len(bundle.item_ids)}
    )


@pytest.mark.parametrize("models", [("hqgnn",), ("hqgnn", "hqgnn_scann")])
def test_a_new_version_serves_the_new_items(tmp_path, models):
    bundle = BUNDLES["4 bits, one range"]
    export_exact(bundle, tmp_path, ExportConfig(default_k=6), 3)
    if "hqgnn_scann" in models:
        export_scann(bundle, tmp_path, ExportConfig(default_k=6), RetrievalConfig(), 4)
    log, about = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text("user_id,item_id\n" + "".join(f'"{user}","{item}"\n' for user, item in log_of(bundle)))
    about.write_text("item_id,category,available\nnew film,film,true\nné,film,false\n")
    added = add_items(tmp_path, log, about)
    assert (added.version, added.num_added) == (5 if "hqgnn_scann" in models else 4, 2)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set(models)

    known = dataclasses.replace(
        bundle,
        # What a model doesn't keep of items that aren't available.
        item_popularity=np.where(bundle.item_available, bundle.item_popularity, 0),
    )
    catalogue = ItemCatalogue(
        np.array(["new film", "né"], object), None, np.array(["film"] * 2, object), np.array([1, 0]) > 0
    )
    oracle = Oracle(extend(known, table(log_of(bundle)), catalogue)[0])
    users = [*bundle.user_ids, "nobody"]
    for name in models:
        signatures = load_saved_model(tmp_path / name / str(added.version)).signatures
        for category in ("", "film"):
            outputs = signatures["recommend"](
                user_id=tf.constant(users),
                k=tf.constant(41),
                exclude_item_id=tf.fill([len(users), 1], ""),
                category=tf.fill([len(users)], category),
            )
            answered = outputs["item_id"].numpy()
            assert b"new film" in answered[1 if category else 3]
            assert "né".encode() not in answered
            for row, user in enumerate(users):
                check_row(outputs, row, 41, oracle.recommend(user, 41, (), category))
        assert b"new film" not in outputs["item_id"].numpy()[[0, 7]], "who took it has seen it"
    assert len(UNAVAILABLE) == 2


def test_nothing_new_is_an_error(tmp_path):
    bundle = BUNDLES["float32"]
    known = table([(bundle.user_ids[3], bundle.item_ids[4]), ("a stranger", "nobody's")])
    with pytest.raises(InputError, match="of the log's 2 items 1 are known, and 1 have no interaction of a user"):
        extend(bundle, known)


def test_no_export_is_an_error(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\na,b\n")
    with pytest.raises(InputError, match="has no version of hqgnn: expected a folder of `tf-hqgnn export`"):
        add_items(tmp_path, log)


def test_a_version_of_another_release_is_an_error(tmp_path):
    version = export_exact(BUNDLES["float32"], tmp_path, ExportConfig(), 1)
    for path in (version / "variables").iterdir():
        path.unlink()
    tf.train.Checkpoint(other=tf.Variable(1.0)).write(str(version / "variables" / "variables"))
    with pytest.raises(InputError, match="has no variable item_ids/keys: expected a model that `tf-hqgnn"):
        read_bundle(version)
