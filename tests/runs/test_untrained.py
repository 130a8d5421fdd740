"""Users and items that only the validation or test split knows."""

from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions, concatenate


@pytest.fixture(scope="module")
def finished(dataset, smoke_config, tmp_path_factory):
    """A run of the generated log with a last user and a last item that are in the test split alone."""
    users, items = dataset.num_users, dataset.num_items
    new = Interactions(np.array([users, users], np.int32), np.array([0, items], np.int32))
    grown = replace(
        dataset,
        user_ids=np.append(dataset.user_ids, "~new"),
        item_ids=np.append(dataset.item_ids, "~new"),
        test=concatenate(replace(dataset.test, timestamp=None), new),
        train=replace(dataset.train, timestamp=None),
        valid=replace(dataset.valid, timestamp=None),
        titles=None,
        categories=None,
        available=None,
    )
    return RunDirectory.load(train(grown, smoke_config, tmp_path_factory.mktemp("new") / "run").run_dir)


def test_who_is_untrained():
    pairs = Interactions(np.array([0, 2], np.int32), np.array([1, 1], np.int32))
    graph = InteractionGraph.from_interactions(pairs, 4, 3)
    untrained = Untrained.of(graph)
    assert untrained.users.tolist() == [False, True, False, True]
    assert untrained.items.tolist() == [True, False, True]
    # An earlier model knew user 1 and item 2: their rows say something.
    rows = np.ones((4, 2)), np.ones((3, 2))
    rows[0][3], rows[1][0] = np.nan, np.nan
    untrained = Untrained.of(graph, rows)
    assert untrained.users.tolist() == [False, False, False, True]
    assert untrained.items.tolist() == [True, False, False]


def test_a_new_user_is_served_what_most_users_like(finished):
    users, items = finished.user_embeddings, finished.item_embeddings
    np.testing.assert_allclose(users[-1], users[:-1].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert not items[-1].any()
    nothing = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)
    top = rank(users, items, np.array([len(users) - 1]), nothing, 20)[0]
    degree = finished.graph.item_degree
    assert degree[top].mean() > 2 * degree.mean()
    bundle = ServingBundle.from_run(finished)
    np.testing.assert_array_equal(bundle.users[-1], users[-1])


def test_the_next_training_starts_them_anew(finished):
    state = TrainedState.from_run(finished)
    for table in (state.users, state.items):
        assert np.isnan(table[-1]).all()
        assert not np.isnan(table[:-1]).any()


def test_nobody_is_trained():
    nobody = Untrained(np.ones(2, bool), np.ones(1, bool))
    rows = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    for one, other in zip(nobody.replace(*rows), rows):
        np.testing.assert_array_equal(one, other)
