"""A run, its training, `evaluate` and the pipeline's evaluator give one figure, whatever is out of stock or unknown."""

import numpy as np
import pytest
from shop import BESTSELLER, NEW, shop_config, write_shop

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.ranking_evaluator import evaluate_models
from tf_hqgnn.tfx.thresholds import Thresholds, judge
from tf_hqgnn.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    log, items, _ = write_shop(folder, num_users=150, num_items=80, num_events=2500)
    config = shop_config(log, items, "training.max_epochs=1", "training.refit=false")
    train(load_dataset(config.data, config.seed), config, folder / "run")
    return RunDirectory.load(folder / "run")


@pytest.fixture(scope="module")
def figures(run, tmp_path_factory):
    model = export_exact(ServingBundle.judged(run), tmp_path_factory.mktemp("model"), ExportConfig(), 1)
    return evaluate_models(run, model, model, (10, 20), 256, Thresholds())


def test_the_shop_is_what_the_test_needs(run):
    data = run.dataset
    held_out = data.item_ids[data.test.item_index]
    assert not data.available[data.item_ids == BESTSELLER].any()
    assert {BESTSELLER, NEW} <= set(held_out)
    assert run.unknown.items[data.item_ids == NEW].all()


def test_evaluate_and_the_pipeline_give_one_figure(run, figures):
    found = run.evaluate("test", (10, 20))
    assert figures["metrics"] == pytest.approx(found.metrics.values)
    assert figures["popularity"] == pytest.approx(found.popularity.values)
    assert figures["num_users"] == found.metrics.num_users
    assert run.evaluate("valid", (20,)).metrics.values["ndcg@20"] == pytest.approx(run.metrics["valid"]["ndcg@20"])


def test_a_bestseller_out_of_stock_refuses_no_good_model(run, figures):
    """With the bestseller among targets and popularity's answers, popularity gets what no model may recommend."""
    data = run.dataset
    seen = data.masked(data.train, data.valid)
    unmasked = evaluate_popularity(data.test, seen, run.graph.item_strength, (20,)).values["ndcg@20"]
    assert unmasked > 1.5 * figures["popularity"]["ndcg@20"]
    rows = run.user_embeddings, run.item_embeddings * data.available[:, np.newaxis]
    stale = evaluate_embeddings(*rows, data.test, seen, run.graph.item_strength, (20,)).values["ndcg@20"]
    assert stale < unmasked
    verdict = judge(figures, Thresholds(), None)
    assert verdict.blessed, verdict.reasons
