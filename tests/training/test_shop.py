"""A shop's cases: what was bought doesn't come back, the last day's items reach users, unknown ids are unknown."""

import numpy as np
import pandas as pd
import pytest
from shop import BESTSELLER, NEW, shop_config, write_shop

from tf_hqgnn import Recommender
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.serving.client import LocalModel
from tf_hqgnn.training.train import train

NEWCOMER = "newcomer"


class Shop:
    """The log, its runs with and without a refit, and what the command line and Python make of them."""

    def __init__(self, folder):
        log, items, self.buyers = write_shop(folder)
        with log.open("a") as file:
            # Somebody who came on the last day, so that only the test split knows them.
            file.write(f"{NEWCOMER},i00003,{2**31 - 9}\n{NEWCOMER},{NEW},{2**31 - 8}\n")
        self.log = pd.read_csv(log)
        config = shop_config(log, items)
        self.dataset = load_dataset(config.data, config.seed)
        self.runs, self.models = {}, {}
        for name, refit in (("refitted", "all"), ("held out", False)):
            out = folder / name
            train(self.dataset, config.with_values({"training.refit": refit}), out)
            self.runs[name] = RunDirectory.load(out)
            self.models[name] = Recommender.load(out, verbose=0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("name", ["refitted", "held out"])
def test_nothing_bought_and_nothing_out_of_stock_is_recommended(shop, name):
    """Whatever part of the split a purchase was in, and whether or not anything is known of its user."""
    found = shop.models[name].recommend("all", k=20)
    assert len(found) == 20 * shop.dataset.num_users
    bought = shop.log.merge(found, on=["user_id", "item_id"])
    assert not len(bought)
    assert BESTSELLER not in set(found["item_id"])


def test_the_last_days_item_reaches_users_and_has_similar_items(shop):
    assert set(shop.dataset.item_ids[shop.dataset.train.item_index]) & {NEW} == set()
    model = shop.models["refitted"]
    found = model.recommend("all", k=10)
    reached = found[found["item_id"] == NEW]
    assert len(reached) >= 5
    # Those of the same taste: among the others there are none of the first day's buyers.
    assert not set(reached["user_id"]) & set(shop.buyers)
    similar = model.similar_items([NEW], k=5)
    assert similar["known"].all()
    assert (similar["score"] > 0.1).all()
    # By count of common buyers: what is similar was bought by the new item's buyers more often than by others.
    near, buyers = set(similar["item_id"]), set(shop.buyers)
    taken = [(user in buyers, item in near) for user, item in zip(shop.log["user_id"], shop.log["item_id"])]
    assert np.mean([item for buyer, item in taken if buyer]) > 1.5 * np.mean([item for _, item in taken])


def test_an_id_without_any_interaction_that_was_learnt_is_unknown_to_every_answer(shop, tmp_path):
    model = shop.models["held out"]
    assert not model.similar_items([NEW], k=3)["known"].any() or not len(model.similar_items([NEW], k=3))
    assert np.isnan(model.score([shop.buyers[0]], [NEW], as_arrays=True)).all()
    assert not model.score([shop.buyers[0]], [NEW])["known"].any()
    assert NEW not in set(model.recommend("all", k=50)["item_id"])
    history = model.recommend_for_history([[NEW]], k=3)
    assert not history["known"].any()
    newcomer, known = model.recommend([NEWCOMER], k=3), model.recommend([shop.buyers[0]], k=3)
    assert (newcomer["known"].any(), known["known"].all()) == (False, True)
    # They get what is popular, but not what they took.
    nobody = model.recommend(["nobody"], k=5)["item_id"].tolist()
    assert newcomer["item_id"].tolist() == [item for item in nobody if item != "i00003"][:3]
    assert not model.score([NEWCOMER], ["i00001"])["known"].any()
    assert not model.user_embeddings([NEWCOMER])[1].any()
    # So it is in an export, and in one that was read and written again.
    bundle = ServingBundle.from_run(shop.runs["held out"])
    first = export_exact(bundle, tmp_path, ExportConfig(), 1)
    again = export_exact(read_bundle(first), tmp_path, ExportConfig(), 2)
    for version in (first, again):
        with LocalModel(version) as served:
            (answer,) = served.recommend([NEWCOMER], k=3)
            assert not answer.known_user
            assert list(answer.item_ids) == newcomer["item_id"].tolist()
            (answer,) = served.recommend_for_history([[NEW]], k=3)
            assert not answer.known_user
    for known in (NEWCOMER, shop.buyers[0]):
        assert shop.models["refitted"].recommend([known], k=1)["known"].all()


def test_an_item_that_was_unknown_can_be_added(shop):
    """The first who took it say what it is, as for any new item."""
    model = Recommender.load(shop.runs["held out"].path, verbose=0)
    rows = pd.DataFrame({"user_id": shop.buyers[:20], "item_id": NEW})
    model.add_items(rows)
    assert model.added_items_["num_added"] == 1
    assert model.similar_items([NEW], k=3)["known"].all()
