"""For tests of a path from a log to a run directory by Beam jobs: a small log, and when two runs are the same."""

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config
from tf_hqgnn.data.synthetic import generate_log, write_log

FEW = ("model.embedding_dim=6", "model.spectral_iterations=1")


def write_small_log(path):
    write_log(generate_log(180, 120, 4000, 3), path)


def config_of(path):
    return Config.load(find_config("spectral"), (f"data.path={path}", *FEW))


def check_embeddings(found, expected, atol):
    """Checks the rows of two runs, and returns the signs between their columns: singular vectors have none."""
    signs = np.sign((found.item_embeddings * expected.item_embeddings).sum(axis=0))
    for name in ("user_embeddings", "item_embeddings"):
        np.testing.assert_allclose(getattr(found, name) * signs, getattr(expected, name), atol=atol)
    return signs
