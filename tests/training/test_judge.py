import numpy as np
import pytest

from tf_hqgnn.config import EvaluationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.types import Interactions


@pytest.fixture
def judge():
    rng = np.random.default_rng(0)
    drawn = rng.random((50, 80))
    train, valid = (np.nonzero((low <= drawn) & (drawn < high)) for low, high in ((0, 0.1), (0.1, 0.15)))
    graph = InteractionGraph.from_interactions(Interactions(*(part.astype(np.int32) for part in train)), 50, 80)
    targets = Interactions(*(part.astype(np.int32) for part in valid))
    return Judge(targets, graph, EvaluationConfig(k=(5, 40)))


def test_the_brief_judge_chooses_as_the_full_one(judge):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(80, 4)).astype(np.float32)
    full, brief = judge(*rows), judge.brief()(*rows)
    assert set(brief) == {name for name in full if name.endswith("@20")}
    assert brief == {name: full[name] for name in brief}
    assert {int(name.partition("@")[2]) for name in full} == {5, 20, 40}


def test_a_sample_judges_by_some_of_the_users(judge):
    sample = judge.sample(7, seed=3)
    users = np.unique(sample.targets.user_index)
    assert len(users) == 7
    kept = np.isin(judge.targets.user_index, users)
    np.testing.assert_array_equal(sample.targets.item_index, judge.targets.item_index[kept])
    assert judge.sample(1000, seed=3) is judge
