"""What features do to trained rows: nothing where there is nothing to judge by, more where validation says so."""

from __future__ import annotations

import numpy as np
import pytest

from tf_hqgnn.config import EvaluationConfig
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.features.model import blend
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.features import learn_features
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.types import Interactions

NUM_USERS, NUM_ITEMS, DIM = 80, 60, 4


def pairs_of(rows):
    users, items = np.array(rows, np.int32).T.reshape(2, -1)
    return Interactions(users.astype(np.int32), items.astype(np.int32))


@pytest.fixture(scope="module")
def world():
    """Users of four tastes, items of four shelves; items 40 on have one interaction, 58 and 59 none."""
    rng = np.random.default_rng(3)
    shelf, taste = np.arange(NUM_ITEMS) % 4, np.arange(NUM_USERS) % 4
    train, valid = [], []
    for item in range(NUM_ITEMS - 2):
        fans = rng.permutation(np.flatnonzero(taste == shelf[item]))
        count = 12 if item < 40 else 1
        train += [(user, item) for user in fans[:count]]
        valid += [(user, item) for user in fans[count : count + 6]]
    shelves = np.array([f"s{one}" for one in shelf], object)
    shelves[59] = ""
    features = FeatureTable(np.array([f"i{n:02}" for n in range(NUM_ITEMS)], object), {"shelf": shelves})
    users = np.array([f"u{n:02}" for n in range(NUM_USERS)], object)
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    dataset = SplitDataset(users, features.ids, pairs_of(train), pairs_of(valid), nothing, item_features=features)
    user_rows = np.eye(DIM, dtype=np.float32)[taste]
    item_rows = np.eye(DIM, dtype=np.float32)[shelf] + 0.1 * rng.normal(size=(NUM_ITEMS, DIM)).astype(np.float32)
    # A single interaction says little.
    item_rows[40:] = rng.normal(size=(20, DIM))
    return dataset, user_rows, item_rows


def learn(world, judged, worths=None):
    dataset, users, items = world
    graph = InteractionGraph.from_interactions(dataset.train, NUM_USERS, NUM_ITEMS)
    targets = dataset.valid if judged else dataset.valid.take(np.zeros(0, np.int64))
    judge = Judge(targets, graph, EvaluationConfig())
    found = learn_features(dataset, users, items, Untrained.of(graph), graph, judge, 0, worths)
    return found, graph, judge


def test_without_validation_features_speak_for_new_rows_alone(world):
    dataset, users, items = world
    found, _, _ = learn(world, judged=False)
    predicted, known = found.models.items.predict(dataset.item_features)
    np.testing.assert_array_equal(found.items[:58], items[:58])
    np.testing.assert_array_equal(found.items[58], predicted[58])
    np.testing.assert_array_equal(found.items[59], items[59])
    assert known.tolist() == [True] * 59 + [False]
    assert found.users is users
    assert (found.worths, found.models.users) == ((0.0, 0.0), None)
    assert found.report["items"]["without_interactions"] == 1


def test_validation_lets_features_help_rows_of_few_interactions(world):
    dataset, users, items = world
    found, graph, judge = learn(world, judged=True)
    assert found.worths[0] == 0
    assert found.worths[1] > 0
    assert judge(users, found.items)["ndcg@20"] > judge(users, items)["ndcg@20"] + 0.05
    predicted, _ = found.models.items.predict(dataset.item_features)
    expected = blend(predicted[:58], items[:58], graph.item_degree[:58], found.worths[1])
    np.testing.assert_allclose(found.items[:58], expected, rtol=1e-5)


def test_a_refit_keeps_what_was_chosen(world):
    found, graph, _ = learn(world, judged=False, worths=(0.0, 3.0))
    dataset, _, items = world
    predicted, _ = found.models.items.predict(dataset.item_features)
    np.testing.assert_allclose(
        found.items[40], blend(predicted[40:41], items[40:41], graph.item_degree[40:41], 3.0)[0], rtol=1e-5
    )
