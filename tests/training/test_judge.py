import csv

import numpy as np
import pytest

from tf_hqgnn.config import Config, EvaluationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError, Interactions


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
    full, brief = judge(*rows), judge.monitor_only()(*rows)
    assert set(brief) == {name for name in full if name.endswith("@20")}
    assert brief == {name: full[name] for name in brief}
    assert {int(name.partition("@")[2]) for name in full} == {5, 20, 40}


def test_the_monitor_is_any_metric_at_any_k(judge):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(80, 4)).astype(np.float32)
    for monitor in ("recall@7", "mrr@40", "coverage@1"):
        chosen = Judge(judge.targets, judge.graph, judge.config.model_copy(update={"monitor": monitor}))
        assert monitor in chosen(*rows)
        assert chosen.value(*rows) == chosen.monitor_only().value(*rows) == chosen(*rows)[monitor]
        assert {name.partition("@")[2] for name in chosen.monitor_only()(*rows)} == {monitor.partition("@")[2]}


@pytest.mark.parametrize("monitor", ["ndcg", "ndcg@0", "auc@20", "ndcg@20x", "popularity@20"])
def test_a_monitor_that_is_none_is_refused(monitor):
    with pytest.raises(InputError, match=r"evaluation.monitor: String should match pattern"):
        Config.from_yaml(f"evaluation: {{monitor: '{monitor}'}}")


def test_everything_is_chosen_by_the_monitor(dataset, smoke_config, tmp_path):
    """Epochs, the propagation and the codes; the files name the metric that they hold."""
    overrides = ("evaluation.monitor=recall@7", "quantization.bits=2", "quantization.distillation.max_epochs=2")
    config = Config.from_yaml(smoke_config.to_yaml(), (*overrides, "quantization.distillation.evaluate_every=1"))
    result = train(dataset, config, tmp_path / "run")
    columns = {name: read(tmp_path / "run" / name) for name in ("history.csv", "propagation.csv")}
    codes = read(tmp_path / "run" / "quantization" / "history.csv")
    validated = [row for row in columns["history.csv"] if row["valid_recall@7"]]
    best = max(validated, key=lambda row: float(row["valid_recall@7"]))
    assert result.best_epoch == int(best["epoch"])
    found = max(columns["propagation.csv"], key=lambda row: float(row["valid_recall@7"]))
    assert RunDirectory.load(tmp_path / "run").config.propagation.solver == found["solver"]
    assert result.full_precision["recall@7"] == pytest.approx(float(found["valid_recall@7"]), abs=1e-9)
    assert result.valid["recall@7"] >= max(float(row["valid_recall@7"]) for row in codes) - 1e-9


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sample_judges_by_some_of_the_users(judge):
    sample = judge.sample(7, seed=3)
    users = np.unique(sample.targets.user_index)
    assert len(users) == 7
    kept = np.isin(judge.targets.user_index, users)
    np.testing.assert_array_equal(sample.targets.item_index, judge.targets.item_index[kept])
    assert judge.sample(1000, seed=3) is judge
