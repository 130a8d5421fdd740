"""What the benchmarks compute themselves: held-out contexts, the splits and refits of peers, tables in README files."""

import json

import numpy as np
import pytest

from benchmarks.cells import ROOT
from benchmarks.holdout import choose
from benchmarks.peers import comparison
from benchmarks.peers.job import Job, Split
from benchmarks.peers.models import PEERS, Model, chooses, ours
from benchmarks.peers.ours import dataset_of
from benchmarks.tables import _FILES, fill
from tf_hqgnn.config import Config, DataConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.types import Interactions


def test_tables_are_those_of_the_results():
    for path in _FILES:
        text = path.read_text(encoding="utf-8")
        assert fill(text) == text, f"{path.name} is out of date: make tables"


def test_a_table_without_rows_or_without_a_name_is_refused():
    with pytest.raises(SystemExit, match="no table is called nothing"):
        fill("<!-- table: nothing -->\n<!-- end -->")
    with pytest.raises(SystemExit, match="has no row with data=moon"):
        fill("<!-- table: quantization data=moon -->\n<!-- end -->")


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("default", (), True),
        ("default", ("training.max_epochs=0",), True),
        ("default", ("training.max_epochs=0", "propagation.search=false"), False),
        ("spectral", (), False),
        ("spectral", ("propagation.solver=euler",), True),
        ("auto", (), True),
        ("auto", ("training.max_epochs=0", "propagation.search=false"), True),
    ],
)
def test_only_what_is_chosen_by_validation_counts_its_time(name, overrides, expected):
    assert chooses(Config.load(ROOT / "configs" / f"{name}.yaml", overrides)) == expected


def test_a_context_is_held_out_as_a_whole():
    # Two worlds of 20 items; every user has ten of the one and ten of the other.
    rng = np.random.default_rng(0)
    pairs = [(user, world * 20 + item) for user in range(60) for world in (0, 1) for item in rng.permutation(20)[:10]]
    pairs += [(60, 0)]
    # Users of one world only tell the worlds apart.
    pairs += [(61 + user, user % 2 * 20 + item) for user in range(40) for item in rng.permutation(20)[:8]]
    users, items = np.array(pairs, np.int32).T
    graph = InteractionGraph.from_interactions(Interactions(users, items), 101, 40)
    held_out = choose(graph, seed=3)
    owners = np.repeat(np.arange(101), graph.user_degree)
    counts = np.bincount(owners[held_out], minlength=101)
    assert counts[:60].tolist() == [2] * 60
    assert counts[60] == 0  # the only interaction of a user stays in training
    worlds = graph.indices[held_out] // 20
    pairs_of_both = [worlds[owners[held_out] == user] for user in range(60)]
    # By chance half of the pairs would be of one world.
    assert np.mean([len(set(pair)) == 1 for pair in pairs_of_both]) > 0.8


@pytest.mark.parametrize(
    ("data", "users", "items", "interactions"),
    [("lastfm", 1090, 3646, 52551), ("sports", 35598, 18357, 296337), ("citeulike", 5551, 16980, 210504)],
)
def test_logs_keep_all_that_their_sources_count(data, users, items, interactions, tmp_path):
    if not comparison.SHARED_DATA.is_dir():
        pytest.skip("the logs are not here")
    comparison.Comparison(tmp_path, data, seed=2020)
    split = Split.load(tmp_path / "splits" / f"{data}-2020" / "selection.npz")
    counted = sum(len(pairs) for pairs in split.parts.values())
    assert (split.num_users, split.num_items, counted) == (users, items, interactions)


@pytest.fixture
def small_comparison(tmp_path, monkeypatch):
    """A comparison on a log of 30 users who took ten of 20 items each."""
    rng = np.random.default_rng(0)
    lines = [f"{user},{item}" for user in range(30) for item in rng.permutation(20)[:10]]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id", *lines]), encoding="utf-8")
    monkeypatch.setitem(comparison.DATA, "small", DataConfig(path=str(tmp_path / "log.csv")))
    return comparison.Comparison(tmp_path, "small", seed=1)


def test_what_refits_itself_is_fitted_once_and_reports_its_validation(small_comparison):
    jobs = []

    def knows_the_test(job: Job) -> None:
        jobs.append((job.split.name, job.settings))
        split = Split.load(job.split)
        liked = np.zeros((split.num_users, split.num_items))
        liked[tuple(split.parts["test"].T)] = 1
        with job.measure():
            job.save_rows(liked, np.eye(split.num_items))
        job.finish(item_bytes=4, versions="", valid=0.5, settings={"chosen": "because"})

    model = Model(lambda _: [{"set": []}], knows_the_test, stops_early=True, refits_itself=True)
    row = small_comparison.row(small_comparison.key("race", model, "", None, None, refit=True), model)
    assert jobs == [("selection.npz", {"set": [], "refit": True})]
    assert (row["fits"], row["valid_ndcg@20"], row["recall@20"], row["ndcg@20"]) == (1, 0.5, 1.0, 1.0)
    assert row["seconds"] == row["all_seconds"]
    assert json.loads(row["settings"])["chosen"] == "because"


def test_only_a_race_refits_itself():
    assert ours(ROOT / "configs" / "auto.yaml", ()).refits_itself
    assert not ours(ROOT / "configs" / "default.yaml", ()).refits_itself


@pytest.mark.parametrize(("with_valid", "expected"), [(True, [[1, 0]]), (False, [])])
def test_a_training_of_ours_is_not_given_the_test_split(with_valid, expected):
    parts = {
        name: np.array([pair], np.int32) for name, pair in (("train", (0, 0)), ("valid", (1, 0)), ("test", (1, 1)))
    }
    dataset = dataset_of(Split(2, 2, parts, seen={}), with_valid)
    assert len(dataset.test) == 0
    assert np.stack([dataset.valid.user_index, dataset.valid.item_index], axis=1).tolist() == expected
    assert (len(dataset.train), len(dataset.user_ids), len(dataset.item_ids)) == (1, 2, 2)


@pytest.mark.parametrize("factorizer", ["CHOLMOD", "ICF"])
def test_sansa_with_dense_weights_ranks_as_ease_does(factorizer, tmp_path):
    try:
        PEERS["sansa"].check()
    except SystemExit as missing:
        pytest.skip(str(missing))
    rng = np.random.default_rng(3)
    taken = rng.random((200, 30)) < rng.uniform(0.05, 0.4, 30)
    train = np.argwhere(taken).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(taken.sum(axis=1))])
    seen = dict.fromkeys(("valid", "test"), (indptr, train[:, 1]))
    nothing = np.zeros((0, 2), np.int32)
    Split(200, 30, {"train": train, "valid": nothing, "test": nothing}, seen).save(tmp_path / "split.npz")
    settings = {"factorizer": factorizer, "l2": 20.0, "weight_matrix_density": 1.0, "scans": 4, "finetune_steps": 40}
    job = Job(tmp_path / "job", "sansa", settings, tmp_path / "split.npz", seed=1)
    job.save()
    PEERS["sansa"].start(job)
    # The closed form: a regression of each item on the others. Incomplete factors are those of normalized interactions.
    x = taken.astype(float)
    if factorizer == "ICF":
        x /= np.sqrt(np.linalg.norm(x.T @ x, axis=0))
    inverse = np.linalg.inv(x.T @ x + 20.0 * np.eye(30))
    scores = taken @ -(inverse / np.diag(inverse)[None, :]) + taken
    scores[taken] = -np.inf
    with np.load(tmp_path / "job" / "lists.npz") as arrays:
        found = arrays["test"][:, 0]
    assert np.mean(found == scores.argmax(axis=1)) > 0.95
    assert json.loads((tmp_path / "job" / "result.json").read_text(encoding="utf-8"))["item_bytes"] > 16 * 15
