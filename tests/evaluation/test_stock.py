"""Items out of stock: judging with them masked equals judging a catalogue that never had them."""

import numpy as np
import pytest

from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.evaluation.ranking import rank, rank_by_popularity
from tf_hqgnn.types import Interactions

USERS, ITEMS = 40, 60


@pytest.fixture
def world():
    """Rows of users and items, seen and held-out pairs; item 0 is what everybody takes."""
    rng = np.random.default_rng(3)
    drawn = rng.random((USERS, ITEMS))
    drawn[:, 0] = np.where(np.arange(USERS) % 2, 0.05, 0.15)
    seen, held_out = (np.nonzero((low <= drawn) & (drawn < high)) for low, high in ((0, 0.1), (0.1, 0.2)))
    pairs = [Interactions(*(part.astype(np.int32) for part in one)) for one in (seen, held_out)]
    rows = (rng.normal(size=(size, 5)).astype(np.float32) for size in (USERS, ITEMS))
    return (*rows, *pairs)


@pytest.mark.parametrize("out", [[0], [0, 7, 59], list(range(1, ITEMS))])
def test_the_figures_are_those_of_a_catalogue_without_the_items(world, out):
    users, items, seen, held_out = world
    available = ~np.isin(np.arange(ITEMS), out)
    new_row = np.cumsum(available) - 1

    def smaller(pairs):
        kept = available[pairs.item_index]
        return Interactions(pairs.user_index[kept], new_row[pairs.item_index[kept]].astype(np.int32))

    degree = np.bincount(seen.item_index, minlength=ITEMS)
    whole, less = seen.to_csr(USERS), smaller(seen).to_csr(USERS)
    found = [
        evaluate_embeddings(users, items, held_out, whole, degree, [5, 20], available=available),
        evaluate_popularity(held_out, whole, degree, [5, 20], available=available),
    ]
    expected = [
        evaluate_embeddings(users, items[available], smaller(held_out), less, degree[available], [5, 20]),
        evaluate_popularity(smaller(held_out), less, degree[available], [5, 20]),
    ]
    for one, other in zip(found, expected):
        assert one.num_users == other.num_users
        for name, value in one.values.items():
            # A share of the catalogue is of the whole one.
            share = available.mean() if name.startswith("coverage") else 1.0
            assert value == pytest.approx(share * other.values[name])


def test_nothing_out_of_stock_is_ranked_and_rows_end_where_the_stock_does(world):
    users, items, seen, _ = world
    available = np.isin(np.arange(ITEMS), [2, 11, 30])
    csr, everyone = seen.to_csr(USERS), np.arange(USERS)
    unseen = available & ~np.isin(
        np.arange(USERS)[:, None] * ITEMS + np.arange(ITEMS), seen.user_index * ITEMS + seen.item_index
    )
    scores = np.where(unseen, users @ items.T, -np.inf)
    top = rank(users, items, everyone, csr, 5, available=available)
    by_popularity = rank_by_popularity(np.arange(ITEMS), everyone, csr, 5, available=available)
    for user in everyone:
        best = np.argsort(-scores[user])[: unseen[user].sum()]
        assert top[user].tolist() == [*best.tolist(), *[-1] * (5 - len(best))]
        assert by_popularity[user].tolist()[: len(best)] == sorted(best.tolist(), reverse=True)
