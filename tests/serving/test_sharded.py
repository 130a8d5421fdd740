"""A model that is cut into shards answers as the whole one, bit for bit; the whole one is the oracle."""

import dataclasses
import json
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import coded_bundle, with_several_categories
from typer.testing import CliRunner

from tf_hqgnn.cli.commands import app
from tf_hqgnn.cli.source_options import Source
from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.layout import EXACT_MODEL, WARMUP_FILE, ModelSettings, read_metadata
from tf_hqgnn.export.serving_module import make_module
from tf_hqgnn.export.shard_manifest import SHARD_SIGNATURES, ShardManifest, manifest_path
from tf_hqgnn.export.sharded import export_shards, items_of_shard
from tf_hqgnn.serving.client import Client as Plain
from tf_hqgnn.serving.pair_answers import PairClient
from tf_hqgnn.serving.remote import Client
from tf_hqgnn.serving.server import Server
from tf_hqgnn.serving.sharded import ShardedClient, connect
from tf_hqgnn.types import InputError

NUM_SHARDS = 2
SETTINGS = ModelSettings(ExportConfig(default_k=5), RetrievalConfig())


class Whole(PairClient):
    """The model that isn't cut, in this process."""

    def __init__(self, bundle):
        self._module = make_module(bundle, EXACT_MODEL, SETTINGS)

    def predict(self, signature_name, inputs, *_, **__):
        try:
            found = getattr(self._module, signature_name)(**{name: tf.constant(one) for name, one in inputs.items()})
        except tf.errors.InvalidArgumentError as error:
            raise InputError(error.message) from error
        return {name: one.numpy() for name, one in found.items()}


@pytest.fixture(scope="module")
def bundle():
    """Codes on both sides. Items 19 and 20 are equal, and the cut is between them; so are 3 and 4."""
    bundle = with_several_categories(coded_bundle(8, 8))
    rows = np.arange(len(bundle.item_ids))
    rows[20] = 19
    return dataclasses.replace(bundle, items=bundle.items.take(rows))


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    manifest = export_shards(lambda: bundle, folder, SETTINGS.export, NUM_SHARDS)
    assert manifest == ShardManifest.load(manifest_path(folder, 1))
    assert [(shard.first_item, shard.num_items) for shard in manifest.shards] == [(0, 20), (20, 20)]
    return folder


@pytest.fixture(scope="module")
def whole(bundle):
    return Whole(bundle)


@pytest.fixture(scope="module")
def addresses(folder):
    """Two names of one server, which clients take for two."""
    with Server(folder, grpc_port=0, rest_port=None) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        yield [address, f"ipv4:{address}"]


@pytest.fixture
def shards(addresses):
    with ShardedClient(addresses) as client:
        yield client


def texts(*values):
    return np.array([value.encode() for value in values], object)


def requests(bundle):
    rng = np.random.default_rng(8)
    users = np.array([name.encode() for name in [*bundle.user_ids, "nobody", ""]], object)
    items = np.array([name.encode() for name in [*bundle.item_ids, "no such item"]], object)
    size = len(users)
    nothing, anything = np.full((size, 1), b"", object), np.full(size, b"", object)
    some = rng.choice(items, (size, 9))
    yield "serving_default", {"user_id": users}
    # More than a shard has, than all have, and nothing at all.
    for k in (0, 1, 7, 25, 60, 10_000):
        yield "recommend", {"user_id": users[:6] if k > 99 else users, "k": np.int32(k),
                            "exclude_item_id": nothing[:6] if k > 99 else nothing,
                            "category": anything[:6] if k > 99 else anything}  # fmt: skip
    everything = np.tile(items, (size, 1))
    for excluded in (some, everything, np.tile(items[:20], (size, 1))):
        yield "recommend", {"user_id": users, "k": np.int32(9), "exclude_item_id": excluded, "category": anything}
    for category in ("film", "rare", "no such category"):
        yield "recommend", {"user_id": users, "k": np.int32(9), "exclude_item_id": nothing,
                            "category": np.full(size, category.encode(), object)}  # fmt: skip
    for given in (
        {},
        {"include_item_id": some, "allow_seen": np.array([True])},
        {"category": np.array([[b"book", b"rare"]], object), "exclude_category": np.array([[b"film"]], object)},
        {"include_item_id": np.array([[b"no such item"]], object)},
    ):
        usual = {"k": np.int32(8), "allow_seen": np.array([False])}
        usual |= {name: np.zeros(1, np.float32) for name in ("diversity", "popularity")}
        lists = ("exclude_item_id", "include_item_id", "category", "exclude_category")
        usual |= {name: np.array([[b""]], object) for name in lists}
        yield "recommend_where", {"user_id": users, **usual, **given}
    yield "rerank", {"user_id": users, "candidate_item_id": some, "k": np.int32(4), "allow_seen": np.array([False])}
    yield "score", {"user_id": users, "item_id": some}
    yield "similar_users", {"user_id": users, "k": np.int32(4)}
    yield "embed_user", {"user_id": users}


def test_every_answer_is_that_of_the_whole_model(bundle, whole, shards):
    asked = set()
    for signature, inputs in requests(bundle):
        expected, found = whole.predict(signature, inputs), shards.predict(signature, inputs)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values, err_msg=f"{signature} {name}")
        asked.add(signature)
    assert asked == set(SHARD_SIGNATURES) - {"tf_example"}


def test_a_shard_allows_the_k_of_the_whole_model(bundle, folder):
    shard = ShardManifest.load(manifest_path(folder, 1)).shards[1]
    module = make_module(items_of_shard(bundle, shard), shard.name, SETTINGS)
    nothing = tf.constant([[""]]), tf.constant([""])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"k must be from 0 to 65536 \(the catalogue has 40 items"):
        module.recommend(tf.constant(["u1"]), tf.constant(70_000), *nothing)


def test_what_needs_items_of_several_shards_is_refused(shards):
    for ask in (
        lambda: shards.similar_items(["i1"]),
        lambda: shards.recommend_for_history([["i1"]]),
        lambda: shards.explain(["u1"], ["i1"]),
        lambda: shards.recommend_where(["u1"], diversity=0.5),
        lambda: shards.recommend_where(["u1"], popularity=-1.0),
    ):
        with pytest.raises(InputError, match=r"needs items of all shards at once, .* exported without --shards$"):
            ask()
    assert shards.unknown_items(["i1", "no such item"]) == {"no such item"}


def test_a_missing_shard_is_named(addresses):
    three = [*addresses, f"dns:///{addresses[0]}"]
    with ShardedClient(three) as shards, pytest.raises(InputError) as refused:
        shards.recommend(["u1"])
    assert str(refused.value).startswith(f"{', '.join(three)}: no server has hqgnn-00000-of-00003, hqgnn-")
    with pytest.raises(InputError, match=r"no such file; expected a manifest of `tf-hqgnn export --shards N`$"):
        connect(addresses[0], manifest=manifest_path("nowhere", 1))


def test_one_client_answers_with_tables(addresses, whole):
    (expected,) = whole.recommend(["u2"], k=6)
    with Client(",".join(addresses)) as model:
        found = model.recommend(["u2"], k=6)
    assert found["item_id"].tolist() == list(expected.item_ids)
    assert found["score"].tolist() == expected.scores.tolist()


def test_versions_are_never_mixed(folder, tmp_path):
    """While servers load a new version one after the other, either all shards answer by the same one, or none does."""
    shards = sorted(folder.glob("hqgnn-*-of-*"))
    metadata = read_metadata(shards[1] / "1")
    assert (metadata["model"], metadata["num_items"]) == (shards[1].name, 20)
    assert metadata["shard"] == {"name": shards[1].name, "first_item": 20, "num_items": 20}
    no_warmup = shutil.ignore_patterns(WARMUP_FILE.name)
    for shard in shards:
        shutil.copytree(shard, tmp_path / shard.name, ignore=no_warmup)

    def load_second(name, client):
        shutil.copytree(tmp_path / name / "1", tmp_path / name / "2")
        deadline = time.monotonic() + 300
        while client.status(name).get(2, ("",))[0] != "AVAILABLE" or client.status(name)[1][0] != "END":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with Server(tmp_path, grpc_port=0, rest_port=None, poll_seconds=0.02) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        with Plain(address) as plain, ShardedClient([address, f"ipv4:{address}"]) as client:
            (expected,) = client.recommend(["u2"])
            load_second(shards[0].name, plain)
            with pytest.raises(InputError, match=r"the shards don't all have a version in common; wait until every"):
                client.recommend(["u2"])
            for shard in shards[1:]:
                load_second(shard.name, plain)
            (found,) = client.recommend(["u2"])
            assert found.item_ids == expected.item_ids


@pytest.mark.parametrize("by_manifest", [False, True])
def test_the_command_asks_all_shards(by_manifest, addresses, folder, whole):
    given = ["recommend", "--user", "u2", "-k", "30", "--exclude", "i3", "--exclude", "nothing", "--json"]
    one = [addresses[0], "--manifest", str(manifest_path(folder, 1))]
    found = CliRunner().invoke(app, [*given, "--server", *(one if by_manifest else [",".join(addresses)])])
    assert found.exit_code == 0, found.output
    (expected,) = whole.recommend(["u2"], k=30, exclude=["i3"])
    items = [{"item_id": item, "score": float(score)} for item, score in zip(expected.item_ids, expected.scores)]
    assert json.loads(found.stdout) == {"user_id": "u2", "known_user": True, "items": items}
    assert "unknown item 'nothing' in --exclude" in found.stderr


def test_what_cannot_be_cut_is_refused(bundle, folder, tmp_path):
    with pytest.raises(InputError, match=r"^--shards 50: the model has 40 items; expected from 1 to that number$"):
        export_shards(lambda: bundle, tmp_path, SETTINGS.export, 50)
    with pytest.raises(InputError, match=r"/1 exists: versions are never overwritten, take another number$"):
        export_shards(lambda: bundle, folder, SETTINGS.export, NUM_SHARDS, version=1)
    # As many shards as there were, or not: a version is of one cut.
    with pytest.raises(InputError, match=r"hqgnn-shards-1\.json exists: versions are never overwritten"):
        export_shards(lambda: bundle, folder, SETTINGS.export, 3, version=1)
    (tmp_path / "bad.json").write_text('{"version": 1}')
    with pytest.raises(InputError, match=r"bad\.json: not a manifest of shards \(KeyError"):
        ShardManifest.load(tmp_path / "bad.json")
    with pytest.raises(InputError, match=r"^--manifest names shards, which servers have: pass --server"):
        Source(None, tmp_path, None, None, None, None, tmp_path / "bad.json")
