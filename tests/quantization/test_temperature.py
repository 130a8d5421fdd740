import numpy as np
import pytest

from tf_hqgnn.quantization.temperature import relative_temperature, score_deviation


@pytest.fixture
def tables():
    random = np.random.default_rng(0)
    return random.normal(size=(30, 4)).astype(np.float32), random.normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def seen(tables):
    """Every user has seen the three items that it scores highest."""
    users, items = tables
    return np.arange(len(users) + 1) * 3, np.argsort(-(users @ items.T), axis=1)[:, :3].ravel()


def test_deviation_is_that_of_the_scores(tables):
    users, items = tables
    np.testing.assert_allclose(score_deviation(users, items), (users @ items.T).std(axis=1), rtol=1e-4)


def test_deviation_is_never_zero(tables):
    users, items = tables[0].copy(), tables[1]
    users[0] = 0
    assert score_deviation(users, items).min() > 0
    assert (score_deviation(np.zeros_like(users), items) == 1).all()


@pytest.mark.parametrize("top_share", [0.3, 0.7])
def test_the_best_unseen_items_have_the_share(tables, seen, top_share):
    users, items = tables
    temperature = relative_temperature(users, items, seen, top_share, k=5, seed=0)
    shares = []
    for user, scores in enumerate(users @ items.T):
        unseen = np.sort(np.delete(scores, seen[1][3 * user : 3 * user + 3]))[::-1]
        mass = np.exp((unseen - unseen[0]) / (temperature * scores.std()))
        shares.append(mass[:5].sum() / mass.sum())
    np.testing.assert_allclose(np.mean(shares), top_share, atol=1e-3)


def test_does_not_depend_on_the_scale_of_the_tables(tables, seen):
    users, items = tables
    first = relative_temperature(users, items, seen, 0.5, k=5, seed=0)
    np.testing.assert_allclose(relative_temperature(100 * users, items, seen, 0.5, k=5, seed=0), first, rtol=1e-3)


def test_fewer_items_than_places_or_none_unseen(tables):
    users, items = tables[0], tables[1][:4]
    nothing = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)
    assert np.isfinite(relative_temperature(users, items, nothing, 0.5, k=20, seed=0))
    everything = np.arange(len(users) + 1) * 4, np.tile(np.arange(4), len(users))
    assert relative_temperature(users, items, everything, 0.5, k=20, seed=0) == 1
