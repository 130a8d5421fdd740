"""The examples with strangers' models are executed, each against what can be worked out without it."""

import importlib.util
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]
IMPLICIT = ROOT / ".venv-implicit"


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_items_of_a_tfrs_model_are_served_in_four_bits(log_path, tmp_path, capsys):
    pytest.importorskip("tensorflow_recommenders")
    model, bundle, path = example("two_tower").main(log_path, tmp_path, epochs=1)
    assert "400 rows of 32 x 4 bits, 18 bytes each, where float32 takes 128" in capsys.readouterr().out
    # What the trained tower gives, ranked by NumPy, is what the server answers.
    rows = model.item_tower(bundle.item_ids.astype(str)).numpy()
    # A value halfway between two levels may fall to either side when the range of its row becomes float16.
    assert np.isclose(bundle.items.dequantize(), rows, rtol=2e-3, atol=2e-4).mean() > 0.99
    scores = bundle.users @ bundle.items.dequantize().T
    scores[bundle.seen_matrix().toarray() > 0] = -np.inf
    served = tf.saved_model.load(str(path)).signatures["serving_default"](user_id=tf.constant(list(bundle.user_ids)))
    width = served["score"].shape[1]
    np.testing.assert_allclose(served["score"], -np.sort(-scores, axis=1)[:, :width], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not (IMPLICIT / ".installed").exists(), reason="make .venv-implicit/.installed")
def test_factors_of_implicit_gain_by_the_graph_ode(log_path, tmp_path):
    script, factors = ROOT / "examples" / "propagate_implicit.py", tmp_path / "factors.npz"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [IMPLICIT / "bin" / "python", script, "train", log_path, factors]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    result = example("propagate_implicit").propagate(log_path, factors)
    assert result["t1"] > 0
    assert result["after"] > result["before"] > 0
