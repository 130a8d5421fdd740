"""One small log, one trained run and one export, which all pages share."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from tf_hqgnn.data.synthetic import generate_log


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A folder with `log.csv`, `items.csv`, `users.csv`, the run `run` and its `export`.

    The log has the shape of MovieLens 100K, ids included: users and items are whole numbers from 1, and 196, 50, 172
    and 181 are among them.
    """
    from tf_hqgnn import Recommender

    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(3)
    generated = generate_log(300, 200, 6000, seed=5)
    log = pd.DataFrame({"user_id": generated.user_index + 1, "item_id": generated.item_index + 1})
    log["rating"] = rng.integers(1, 6, len(log))
    log["timestamp"] = 880_000_000 + rng.permutation(len(log)) * 60
    log.to_csv(folder / "log.csv", index=False)
    genres = np.array(["Drama", "War", "Comedy", "Western"])
    items = pd.DataFrame({"item_id": range(1, 201), "title": [f"Title {one}" for one in range(1, 201)]})
    items["category"] = genres[items["item_id"] % 4]
    items["genres"] = ["|".join(sorted({genres[one % 4], genres[one // 4 % 4]})) for one in items["item_id"]]
    items["year"] = 1950 + items["item_id"] % 50
    items.to_csv(folder / "items.csv", index=False)
    users = pd.DataFrame({"user_id": range(1, 301)})
    users["age"], users["occupation"] = 18 + users["user_id"] % 50, np.array(["artist", "doctor"])[users["user_id"] % 2]
    users.to_csv(folder / "users.csv", index=False)
    model = Recommender("spectral", verbose=0, **{"data.split.valid": 0.1, "data.split.test": 0.1})
    model.fit(log, items=items, users=users, run_dir=folder / "run").export(folder / "export")
    return folder


@pytest.fixture
def folder(shop, tmp_path, monkeypatch):
    """Gives an empty working directory, and a function that copies some of `shop` into it."""
    monkeypatch.chdir(tmp_path)

    def fill(names):
        for name in [path.name for path in shop.iterdir()] if names is None else names:
            source = shop / name
            if source.is_dir():
                shutil.copytree(source, tmp_path / name)
            else:
                shutil.copy(source, tmp_path / name)
        return tmp_path

    return fill
