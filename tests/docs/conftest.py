"""One small log, one trained run and one export, which all pages share; and the other files that a page may name."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from certificates import Authority

from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.data.synthetic import generate_log


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A folder with `log.csv`, `items.csv`, `users.csv`, the run `run`, its `export`, and files of `_write_others`.

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
    _write_others(folder, log)
    return folder


def _write_others(folder, log):
    """Two days of the log; its graph as files of `tf_hqgnn.beam`; the keys of a server and of a client."""
    (folder / "logs").mkdir()
    for day, rows in enumerate(np.array_split(np.argsort(log["timestamp"].to_numpy()), 2), start=1):
        log.iloc[rows].to_csv(folder / "logs" / f"day-{day}.csv", index=False)
    rng = np.random.default_rng(4)
    write_edges(str(folder / "edges-0.parquet"), log["user_id"].to_numpy() - 1, log["item_id"].to_numpy() - 1)
    for name, size in (("users", 300), ("items", 200)):
        write_rows(str(folder / f"{name}-0.parquet"), np.arange(size), rng.normal(size=(size, 4)).astype(np.float32))
    authority = Authority()
    (folder / "CA.pem").write_bytes(authority.pem)
    for name in ("server", "me"):
        key, certificate = authority.pair(name)
        (folder / f"{name}.key").write_bytes(key)
        (folder / f"{name}.pem").write_bytes(certificate)


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
