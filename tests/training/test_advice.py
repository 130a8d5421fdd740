"""A training that ends below popularity says so, and what to try."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from tf_hqgnn import Recommender

# Everybody takes the popular items, each in an order of its own: there is no taste to learn.
SETTINGS = {
    "model.embedding_dim": 2,
    "model.initializer": "random",
    "training.max_epochs": 0,
    "propagation.solver": "none",
    "propagation.search": False,
    "data.split.valid": 0.2,
}


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    items = [(user, item) for user in range(120) for item in rng.choice(60, 8, replace=False, p=np.arange(60) / 1770)]
    return pd.DataFrame(items, columns=["user_id", "item_id"])


@pytest.mark.parametrize("command_line", [True, False])
def test_a_model_below_popularity_says_so_last(log, tmp_path, run_command, caplog, command_line):
    if command_line:
        log.to_csv(tmp_path / "log.csv", index=False)
        values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in SETTINGS.items()}
        overrides = [f"--set={name}={value}" for name, value in values.items()]
        done = run_command("train", "--out", tmp_path / "run", *overrides, "--set", f"data.path={tmp_path / 'log.csv'}")
        assert done.code == 0
        line = done.err.strip().splitlines()[-1].removeprefix("tf-hqgnn: ")
        assert json.loads(done.out)["warning"] == line
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    else:
        with caplog.at_level(logging.WARNING, "tf_hqgnn"):
            metrics = Recommender(verbose=0, **SETTINGS).fit(log).metrics_
        line = caplog.messages[-1]
    model, popularity = metrics["valid"]["ndcg@20"], metrics["popularity"]["ndcg@20"]
    assert model < popularity
    assert line.startswith(
        f"the model is worse than popularity: ndcg@20 {model:.4f} on the validation split, below {popularity:.4f}"
    )
    assert "try the preset" in line
