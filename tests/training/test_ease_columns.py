"""Columns of EASE beside trained ones: what is served, how the weight is chosen, and what is refused."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import rankdata

from tf_hqgnn.beam.path.supported import check_supported
from tf_hqgnn.config import Config
from tf_hqgnn.config.ease import EaseConfig
from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.graph.ease import ease_rows
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.ease_columns import add_ease, check_ease, even_columns, mixed, scaled
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

SETTINGS = {
    "model.embedding_dim": 8,
    "training.max_epochs": 2,
    "training.evaluate_every": 1,
    "training.steps_per_execution": 4,
    "ease.columns": 16,
    "ease.regularization": 20.0,
}


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def graph(dataset):
    return InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    config = Config().with_values(SETTINGS | {"ease.search": False, "ease.weight": 0.5})
    return RunDirectory.load(train(dataset, config, tmp_path_factory.mktemp("ease") / "run").run_dir)


def test_scores_are_the_sum_of_both_in_deviations():
    first, second = (rows(7, 3), rows(5, 3, seed=1)), (rows(7, 2, seed=2), rows(5, 2, seed=3))
    users, items = mixed(first, second, 0.25)
    one, other = (part[0] @ part[1].T for part in (first, second))
    expected = one / one.std(axis=1, keepdims=True) + 0.25 * other / other.std(axis=1, keepdims=True)
    np.testing.assert_allclose(users @ items.T, expected, rtol=1e-4, atol=1e-4)


def test_a_row_without_scores_stays_without():
    users = rows(4, 3)
    users[2] = 0
    assert np.array_equal(scaled((users, rows(5, 3, seed=1)))[2], np.zeros(3))


def test_even_columns_keep_all_products_and_are_about_alike():
    users, items = rows(40, 6), rows(30, 6, seed=1)
    # As singular vectors are: one column of users holds nearly all, and those of items are all alike.
    users *= np.float32([100, 10, 1, 1, 0.1, 0.1])
    evened = even_columns((users, items), seed=4)
    np.testing.assert_allclose(evened[0] @ evened[1].T, users @ items.T, rtol=1e-3, atol=1e-3)
    grams = [side.astype(np.float64).T @ side for side in evened]
    np.testing.assert_allclose(*grams, rtol=1e-3, atol=1e-2)
    assert np.diag(grams[0]).max() < 100 * np.diag(grams[0]).min()
    again = even_columns((users, items), seed=4)
    assert np.array_equal(evened[0], again[0])
    assert np.array_equal(evened[1], again[1])


def test_fewer_users_than_columns():
    users, items = rows(3, 8), rows(20, 8, seed=1)
    evened = even_columns((users, items), seed=0)
    assert evened[0].shape[1] == 3
    np.testing.assert_allclose(evened[0] @ evened[1].T, users @ items.T, rtol=1e-3, atol=1e-3)


def test_the_best_weight_is_taken_and_of_equal_ones_the_least(graph):
    trained = rows(graph.num_users, 4), rows(graph.num_items, 4, seed=1)
    config = EaseConfig(columns=6)
    wanted = ease_rows(graph.seen(), graph.num_items, 6, config.regularization, 9)

    def like(weight):
        expected = mixed(trained, wanted, weight)
        return lambda users, items: -float(np.abs(users @ items.T - expected[0] @ expected[1].T).max())

    for weight in (0.1, 0.45):
        (users, items), found = add_ease(trained, graph, config, 9, like(weight))
        assert found.weight == weight
        expected = mixed(trained, wanted, weight)
        np.testing.assert_allclose(users @ items.T, expected[0] @ expected[1].T, atol=1e-3)
    same, found = add_ease(trained, graph, config, 9, lambda *_: 0.5)
    assert found.weight == 0
    assert same is trained
    # A weight of the settings is one more to try.
    assert add_ease(trained, graph, config.model_copy(update={"weight": 0.37}), 9, like(0.37))[1].weight == 0.37
    assert add_ease(trained, graph, config, 9, None)[1].weight == config.weight


def test_a_run_serves_both(run, graph):
    assert run.user_embeddings.shape[1] == run.item_embeddings.shape[1] == 24
    assert run.tables().users.shape[1] == 8
    # Scores that EASE alone accounts for, once what is trained is taken away.
    closed = ease_rows(graph.seen(), graph.num_items, 16, 20.0, run.config.seed)
    known = np.flatnonzero(graph.user_degree > 0)
    items = graph.item_degree > 0
    scores = (run.user_embeddings @ run.item_embeddings.T)[known][:, items]
    ease = (scaled(closed) @ closed[1].T)[known][:, items]
    agreement = [np.corrcoef(rankdata(a), rankdata(b))[0, 1] for a, b in zip(scores, ease)]
    assert np.mean(agreement) > 0.3
    bundle = ServingBundle.from_run(run)
    assert bundle.user_hop_map.shape == (24, 24)


def test_the_weight_is_recorded_and_a_refit_takes_it(dataset, tmp_path):
    config = Config().with_values(
        SETTINGS | {"training.refit": True, "quantization.bits": 8, "quantization.user_bits": 8}
    )
    run = RunDirectory.load(train(dataset, config, tmp_path / "run").run_dir)
    found = run.config.ease.weight
    assert found in (0.0, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 1.0)
    assert run.user_embeddings.shape[1] == (24 if found else 8)
    assert run.coded is not None
    assert run.coded.dequantize()[0].shape == run.user_embeddings.shape


def test_no_worse_on_validation_than_without(dataset, tmp_path):
    with_ease = train(dataset, Config().with_values(SETTINGS), tmp_path / "with")
    without = train(dataset, Config().with_values(SETTINGS | {"ease.columns": 0}), tmp_path / "without")
    assert with_ease.valid["ndcg@20"] >= without.valid["ndcg@20"]


def test_what_it_cannot_be_beside_is_refused():
    with pytest.raises(InputError, match=r"^ease.columns=64: EASE needs .* there are 20,001 items; expected at most"):
        check_ease(EaseConfig(columns=64), 20_001)
    check_ease(EaseConfig(), 10**9)
    fine = {"quantization.bits": 1, "quantization.method": "fine_tuning", "propagation.solver": "none"}
    with pytest.raises((InputError, ValidationError), match=r"fine_tuning .* set ease.columns: 0"):
        Config().with_values(fine | {"propagation.normalize": False, "ease.columns": 8})
    beam = {"training.max_epochs": 0, "model.initializer": "spectral", "propagation.search": False}
    check_supported(Config().with_values(beam))
    with pytest.raises(InputError, match=r"^--runner: ease.columns=8 needs"):
        check_supported(Config().with_values(beam | {"ease.columns": 8}))
