"""Adding items to an export: the new rows against least squares, what is served then, and the settings that stay."""

import dataclasses
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import Oracle, check_row, coded_bundle, make_bundle, values
from few_signatures import export_only
from tensorflow_serving.apis import prediction_log_pb2

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.data.interactions import InteractionTable
from tf_hqgnn.data.items import ItemCatalogue
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.export.bundle import export_bundle, export_exact, export_scann
from tf_hqgnn.export.kept_settings import infer_index, kept_settings
from tf_hqgnn.export.loading import load_saved_model, needs_scann
from tf_hqgnn.export.new_items import add_items, extend
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import InputError, Interactions

BUNDLES = {
    "float32": make_bundle(),
    "1 bit": coded_bundle(1, 1, dim=64),
    "2 bits, ranges with offsets": coded_bundle(2, 8, dim=9, symmetric=False),
    "4 bits, one range": coded_bundle(4, 4, dim=20, per_tensor=True),
    "8 bits": coded_bundle(8, None),
}


@pytest.fixture(autouse=True)
def few_signatures(monkeypatch):
    export_only(monkeypatch, "serving_default", "recommend")


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return BUNDLES[request.param]


def table(pairs):
    """A log of (user id, item id)."""
    users, items = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    index = [np.array([ids.index(pair[side]) for pair in pairs], np.int32) for side, ids in ((0, users), (1, items))]
    report = ReadReport(len(pairs), len(pairs), 0, 0)
    return InteractionTable(np.array(users, object), np.array(items, object), Interactions(*index), None, report)


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


def test_new_rows_are_a_hop_and_the_map_of_least_squares(bundle):
    extended, counts = extend(bundle, table(log_of(bundle)))
    assert counts == {
        "num_added": 2,
        "num_by_features": 0,
        "num_skipped": 1,
        "num_updated": 1,
        "num_withdrawn": 0,
        "num_returned": 0,
        "num_unknown_users": 1,
    }
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
        by_default = signatures["serving_default"](user_id=tf.constant(users[:1]))
        assert by_default["item_id"].shape == (1, 6), "as many answers as before"


def asked(version, bundle):
    """All answers of `recommend` to every user and an unknown one, with and without a category."""
    signatures = load_saved_model(version).signatures
    users = tf.constant([*bundle.user_ids, "nobody"])
    answers = {}
    for category in ("", "film", "book"):
        options = {"exclude_item_id": tf.fill([1, 1], ""), "category": tf.fill([len(users)], category)}
        outputs = signatures["recommend"](user_id=users, k=tf.constant(45), **options)
        answers |= {(category, name): value.numpy() for name, value in outputs.items()}
    return answers


def check_same(one, other):
    assert one.keys() == other.keys()
    for name, answer in one.items():
        np.testing.assert_array_equal(answer, other[name], err_msg=str(name))


def test_items_are_withdrawn_and_return_by_availability_alone(tmp_path):
    bundle = BUNDLES["float32"]
    leaves = RetrievalConfig(index="scann", num_leaves=3, num_leaves_to_search=3)
    export_bundle(lambda: bundle, tmp_path, ExportConfig(), leaves)
    first = {name: asked(tmp_path / name / "1", bundle) for name in ("hqgnn", "hqgnn_scann")}
    gone = {bundle.item_ids[row] for row in (3, 7, 20)}
    about = tmp_path / "about.csv"
    about.write_text("item_id,available\n" + "".join(f'"{name}",no\n' for name in gone))
    added = add_items(tmp_path, None, about)
    assert (added.version, added.num_added, added.num_withdrawn, added.num_returned) == (2, 0, 3, 0)
    less = dataclasses.replace(bundle, item_available=bundle.item_available & ~np.isin(bundle.item_ids, [*gone]))
    export_bundle(lambda: less, tmp_path / "anew", ExportConfig(), leaves)
    for name in first:
        found = asked(tmp_path / name / "2", bundle)
        check_same(found, asked(tmp_path / "anew" / name / "1", bundle))
        assert not {one.encode() for one in gone} & {*found["", "item_id"].ravel()}
    about.write_text("item_id,available\n" + "".join(f'"{name}",yes\n' for name in gone))
    added = add_items(tmp_path, None, about)
    assert (added.version, added.num_withdrawn, added.num_returned) == (3, 0, 3)
    learnt = set()
    for name, before in first.items():
        check_same(before, asked(tmp_path / name / "3", bundle))
    for version in "123":
        stored = StoredModel(tmp_path / "hqgnn_scann" / version)
        learnt.add(stored.read("top_k/searcher/_state/serialized_partitioner")[0])
    assert len(learnt) == 1
    with pytest.raises(InputError, match="nothing to add: of the 3 items given 3 are known already"):
        add_items(tmp_path, None, about)


@pytest.mark.parametrize("index", ["exact", "scann"])
def test_a_new_version_is_what_a_full_export_makes_of_it(tmp_path, index):
    """Two times in a row: what one version keeps, the next is made from."""
    bundle = dataclasses.replace(BUNDLES["8 bits"], learnt=BUNDLES["8 bits"].seen)
    settings = RetrievalConfig(index=index)
    export_bundle(lambda: bundle, tmp_path, ExportConfig(), settings)
    expected = bundle
    for number, pairs in enumerate(([("new", 0), ("new", 5)], [("newer", 3), ("new", 4)]), start=2):
        named = [(bundle.user_ids[user], item) for item, user in pairs]
        log = tmp_path / "log.csv"
        log.write_text("user_id,item_id\n" + "".join(f'"{user}","{item}"\n' for user, item in named))
        assert add_items(tmp_path, log).version == number
        expected = extend(expected, table(named))[0]
        export_bundle(lambda made=expected: made, tmp_path / str(number), ExportConfig(), settings)
        for name in ("hqgnn", "hqgnn_scann"):
            check_same(asked(tmp_path / name / str(number), bundle), asked(tmp_path / str(number) / name / "1", bundle))
            one, other = (
                read_bundle(folder / name / at)
                for folder, at in ((tmp_path, str(number)), (tmp_path / str(number), "1"))
            )
            np.testing.assert_array_equal(one.hop_map, other.hop_map)
            for mine, theirs in zip(one.learnt, other.learnt):
                np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.learnt[1], bundle.seen[1])


def test_models_that_were_exported_apart_keep_nothing_of_each_other(tmp_path):
    bundle = BUNDLES["float32"]
    other = dataclasses.replace(bundle, items=bundle.items[::-1].copy())
    leaves = RetrievalConfig(index="scann", num_leaves=3, num_leaves_to_search=3)
    export_exact(bundle, tmp_path, ExportConfig(), 1)
    export_scann(other, tmp_path, ExportConfig(), leaves, 1)
    add_items(tmp_path, write_log(tmp_path, bundle))
    check_same(*(asked(tmp_path / name / "2", bundle) for name in ("hqgnn", "hqgnn_scann")))


@pytest.mark.usefixtures("tmp_path")
def test_nothing_new_is_an_error():
    bundle = BUNDLES["float32"]
    known = table([(bundle.user_ids[3], bundle.item_ids[4]), ("a stranger", "nobody's")])
    with pytest.raises(InputError, match="of the 2 items given 1 are known already, and 1 have neither an interaction"):
        extend(bundle, known)


def test_no_export_is_an_error(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\na,b\n")
    with pytest.raises(InputError, match="holds no model: expected the EXPORT_DIR that `tf-hqgnn export`"):
        add_items(tmp_path, log)


def write_log(folder, bundle):
    log = folder / "log.csv"
    log.write_text("user_id,item_id\n" + "".join(f'"{user}","{item}"\n' for user, item in log_of(bundle)))
    return log


def metadata_of(version):
    return json.loads((version / "assets.extra" / "metadata.json").read_text())


def warmed_up(version):
    """The sizes of batches in the warm-up records."""
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    logs = map(prediction_log_pb2.PredictionLog.FromString, tf.data.TFRecordDataset(path).as_numpy_iterator())
    requests = [log.predict_log.request for log in logs]
    return [
        request.inputs["user_id"].tensor_shape.dim[0].size
        for request in requests
        if request.model_spec.signature_name == "serving_default"
    ]


SIZES = ("num_leaves", "num_leaves_to_search", "reorder")


@pytest.mark.parametrize(
    ("settings", "jit_compile", "index", "exact"),
    [
        ({"index": "scann", "num_leaves": 3, "num_leaves_to_search": 2, "reorder": 7}, False, "ScannTopK", False),
        ({"index": "scann", "target_recall": 0.5}, False, "ScannTopK", False),
        ({"index": "exact", "target_recall": 0.9}, True, "ExactTopK", True),
    ],
)
def test_every_setting_stays(tmp_path, settings, jit_compile, index, exact):
    """They were dropped: the next version had the default index, and no compiled search."""
    bundle = BUNDLES["4 bits, one range"]
    export, retrieval = ExportConfig(default_k=3, jit_compile=jit_compile), RetrievalConfig(**settings)
    export_bundle(lambda: bundle, tmp_path, export, retrieval)
    added = add_items(tmp_path, write_log(tmp_path, bundle))
    assert added.version == 2
    for name in ("hqgnn", "hqgnn_scann"):
        version = tmp_path / name / "2"
        # XLA compiles a search for each of four sizes of batches.
        assert warmed_up(version) == ([1, 4, 16, 64] if jit_compile else [1, 16])
        found = metadata_of(version)
        assert found["num_items"] == 42
        assert found["default_k"] == 3
        assert found["export"] == export.model_dump()
        defaults = {"index": "auto", "target_recall": 0.98, **dict.fromkeys(SIZES)}
        assert found["retrieval"] == {**defaults, **settings}
    assert (found["index"], found["exact"]) == (index, exact)
    assert {name: found[name] for name in SIZES if name in settings} == {
        name: settings[name] for name in SIZES if name in settings
    }
    assert needs_scann(version) != exact


def test_each_model_keeps_its_own_settings(tmp_path):
    bundle = BUNDLES["float32"]
    export_exact(bundle, tmp_path, ExportConfig(default_k=3, jit_compile=True), 1)
    retrieval = RetrievalConfig(index="scann", reorder=9)
    export_scann(bundle, tmp_path, ExportConfig(default_k=5), retrieval, 4)
    assert add_items(tmp_path, write_log(tmp_path, bundle)).version == 5
    exact, scann = (metadata_of(tmp_path / name / "5") for name in ("hqgnn", "hqgnn_scann"))
    assert exact["export"] == ExportConfig(default_k=3, jit_compile=True).model_dump()
    assert scann["export"] == ExportConfig(default_k=5).model_dump()
    assert (scann["retrieval"]["index"], scann["retrieval"]["reorder"]) == ("scann", 9)


def test_an_export_of_version_0_1_gets_what_can_be_inferred(tmp_path, caplog):
    """See `test_reader.EXPORT_OF_0_1`, which says what it was exported with."""
    with tarfile.open(Path(__file__).parent / "data" / "export_of_0_1.tar.xz") as archive:
        archive.extractall(tmp_path)
    bundle = BUNDLES["4 bits, one range"]
    with caplog.at_level(logging.WARNING, logger="tf_hqgnn"):
        assert add_items(tmp_path, write_log(tmp_path, bundle)).version == 2
    exact, scann = (tmp_path / name / "2" for name in ("hqgnn", "hqgnn_scann"))
    assert metadata_of(exact)["export"] == ExportConfig(default_k=6, jit_compile=True).model_dump()
    assert warmed_up(exact) == [1, 4, 16, 64]
    found = metadata_of(scann)
    assert found["export"] == ExportConfig(default_k=6).model_dump()
    assert (found["index"], found["num_leaves"]) == ("ScannTopK", 5)
    assert found["retrieval"]["index"] == "scann"
    lines = [record.getMessage() for record in caplog.records if "version 0.1" in record.getMessage()]
    assert [str(tmp_path / name / "1") in line for name, line in zip(("hqgnn", "hqgnn_scann"), lines)] == [True, True]
    assert "export.jit_compile true, retrieval.index auto and retrieval.num_leaves null follow" in lines[0]
    assert "export.jit_compile false, retrieval.index scann and retrieval.num_leaves 5 follow" in lines[1]
    assert "the other settings of retrieval take their defaults; to set them, export the run again" in lines[1]


@pytest.mark.parametrize(
    ("kept", "num_items", "expected"),
    [
        # ScaNN for a small catalogue was asked for; for a large one it wasn't.
        ({"index": "ScannTopK", "num_leaves": 10}, 100, ("scann", None)),
        ({"index": "ScannTopK", "num_leaves": 200}, 40_000, ("auto", None)),
        ({"index": "ScannTopK", "num_leaves": 300}, 40_000, ("auto", 300)),
        ({"index": "ExactTopK"}, 100, ("auto", None)),
        ({"index": "ExactTopK"}, 40_000, ("exact", None)),
    ],
)
def test_the_index_of_version_0_1_is_inferred(kept, num_items, expected):
    found = infer_index({"model": "hqgnn_scann", **kept}, num_items)
    assert (found.index, found.num_leaves) == expected


def test_an_export_of_version_0_1_without_its_default_k_is_refused(tmp_path):
    version = export_exact(BUNDLES["float32"], tmp_path, ExportConfig(), 1)
    (version / "assets.extra" / "metadata.json").write_text('{"model": "hqgnn"}')
    with pytest.raises(InputError, match="doesn't say what its default_k is: export the run again"):
        kept_settings(version)
