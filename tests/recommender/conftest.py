"""One log and one model of it for every test of this folder."""

import numpy as np
import pandas as pd
import pytest

from tf_hqgnn import Recommender
from tf_hqgnn.data.synthetic import generate_log

SETTINGS = {"model.embedding_dim": 16}
TRAINED = {**SETTINGS, "training.max_epochs": 2, "training.jit_compile": False, "training.evaluate_every": 1}


@pytest.fixture(scope="session")
def settings():
    """Those of `model` and `plain`, which aren't trained: no test here asks how good a model is."""
    return SETTINGS


@pytest.fixture(scope="session")
def training():
    """Settings of `trained`."""
    return TRAINED


@pytest.fixture(scope="session")
def log():
    """A log of 200 users and 120 items whose ids are int64, with times and ratings."""
    generated = generate_log(200, 120, 3000, seed=5)
    frame = pd.DataFrame({"user_id": 100 + generated.user_index, "item_id": 1 + generated.item_index}, dtype=np.int64)
    frame["timestamp"] = generated.timestamp
    frame["rating"] = np.random.default_rng(1).integers(1, 6, len(frame))
    return frame


@pytest.fixture(scope="session")
def items(log):
    """Titles, categories and availability of every item; item 3 isn't available."""
    ids = np.unique(log["item_id"])
    titles = [f"Title {one}" for one in ids]
    categories = np.where(ids % 2 == 0, "even", "odd")
    return pd.DataFrame({"item_id": ids, "title": titles, "category": categories, "available": ids != 3})


@pytest.fixture(scope="session")
def model(log, items):
    """A model of the log with its items."""
    return Recommender("spectral", verbose=0, **SETTINGS).fit(log, items=items)


@pytest.fixture(scope="session")
def plain(log):
    """A model of the log alone."""
    return Recommender("spectral", verbose=0, **SETTINGS).fit(log)


@pytest.fixture(scope="session")
def trained(log, items):
    """A model that was trained."""
    return Recommender("default", verbose=0, **TRAINED).fit(log, items=items)


@pytest.fixture(scope="session")
def saved(trained, tmp_path_factory):
    """Its run directory."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    trained.save(folder)
    return folder
