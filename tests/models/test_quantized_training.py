"""What quantizers are told by the model while it trains: the step, and which rows they round."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.models.delta_refresh import refresh_deltas
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.optimizers import LazyAdam

BATCH = {
    "user_index": tf.constant([0, 3, 3, 1]),
    "item_index": tf.constant([2, 0, 4, 2]),
    "negative_index": tf.constant([[1], [1], [2], [0]]),
}


def model(**quantizers):
    made = HQGNN(4, 5, 3, BPR(), seed=1, jit_compile_loss=False, **quantizers)
    made.compile(LazyAdam(0.01))
    return made


def test_random_rounding_follows_the_step_while_it_trains_and_is_off_otherwise():
    made = model(item_quantizer=LowBitQuantizer(1, estimator="stochastic"))
    training, judged = [], []
    for step in (0, 1, 0):
        made.optimizer.iterations.assign(step)
        training.append(float(made.compute_loss(BATCH, training=True)))
        judged.append(float(made.compute_loss(BATCH)))
    assert training[0] == training[2] != training[1]
    assert judged[0] == judged[1] == judged[2]
    nearest = model(item_quantizer=LowBitQuantizer(1, estimator="ste"))
    assert judged[0] == pytest.approx(float(nearest.compute_loss(BATCH)))


@pytest.mark.parametrize(("side", "row", "others"), [("user", 3, [0, 1, 2]), ("item", 2, [0, 1, 3, 4])])
def test_the_delta_of_a_row_bends_the_gradient_of_that_row_alone(side, row, others):
    quantizer = LowBitQuantizer(1, delta_per="row")
    made = model(**{f"{side}_quantizer": quantizer})
    table = getattr(made, f"{side}_table")

    def gradient():
        with tf.GradientTape() as tape:
            loss = made.compute_loss(BATCH, training=True)
        return tf.convert_to_tensor(tape.gradient(loss, table)).numpy()

    straight = gradient()
    quantizer.delta.scatter_update(tf.IndexedSlices([[1.5]], [row]))
    bent = gradient()
    np.testing.assert_array_equal(bent[others], straight[others])
    assert np.abs(bent[row] - straight[row]).max() > 1e-4 * np.abs(straight[row]).max()


def test_a_refresh_finds_the_deltas_of_the_rows_of_its_batches():
    made = model(user_quantizer=LowBitQuantizer(1, delta_per="row"), item_quantizer=LowBitQuantizer(1, delta_per="row"))
    config = QuantizationConfig(
        bits=1, user_bits=1, method="fine_tuning", delta_per="row", trace="hutchinson", trace_tolerance=0.01
    )
    logs = refresh_deltas(made, [BATCH], config)
    # User 2 and item 3 are in no pair.
    assert np.ravel(made.user_quantizer.delta > 0).tolist() == [True, True, False, True]
    assert np.ravel(made.item_quantizer.delta > 0).tolist() == [True, True, True, False, True]
    of_users, of_items = BPR().hessian_traces(
        *(tf.gather(rows, index) for rows, index in zip(made.rows(), (BATCH["user_index"], BATCH["item_index"]))),
        tf.gather(made.rows()[1], BATCH["negative_index"]),
    )
    for side, trace in (("users", of_users), ("items", of_items)):
        assert abs(logs[f"trace_{side}"] - float(trace)) < 5 * logs[f"trace_{side}_error"] + 1e-6
