"""What the benchmarks compute themselves: the held-out contexts, and the tables in README files."""

import numpy as np
import pytest

from benchmarks.cells import ROOT
from benchmarks.holdout import choose
from benchmarks.peers.models import chooses
from benchmarks.tables import _FILES, fill
from tf_hqgnn.config import Config
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
