"""Estimators by name; one that only this file knows of is a setting, and rounds."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.models.factory import make_quantizers
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator
from tf_hqgnn.types import InputError


def test_what_the_estimators_need():
    needs = {name: (ESTIMATORS[name].takes_delta, ESTIMATORS[name].follows_hessian) for name in ESTIMATORS.names()}
    assert needs == {
        "ewgs": (True, False),
        "gste": (False, True),
        "lsq": (False, False),
        "reste": (False, False),
        "ste": (False, False),
        "stochastic": (False, False),
    }


@pytest.mark.parametrize("name", ["ste", "ewgs"])
def test_a_delta_that_does_not_follow_the_hessian_says_so(name):
    with pytest.raises(
        ValueError, match=f"only the estimator gste has a delta that follows the Hessian, this is {name}"
    ):
        ESTIMATORS[name]().delta(tf.constant(1.0), tf.ones([1, 2]), 1)


class HalfOfTheTrace(Estimator):
    """delta = Tr(H) / 2."""

    follows_hessian = True

    def delta(self, hessian_trace, gradients, num_bits):
        return hessian_trace / 2.0


@pytest.fixture
def half():
    ESTIMATORS.register("half")(HalfOfTheTrace)
    yield
    ESTIMATORS.remove("half")


@pytest.mark.usefixtures("half")
def test_a_new_estimator_needs_nothing_but_its_class():
    config = Config.from_yaml("quantization: {bits: 1, estimator: half}").quantization
    _, items = make_quantizers(config)
    rows = tf.constant([[1.0, -1.0]])  # its range is -1 .. 1, so the trace counts four times on the scale 0 .. 1
    assert items.follows_hessian
    np.testing.assert_allclose(items.refresh_delta(rows, tf.ones([1, 2]), 0.25), 0.5)
    assert LowBitQuantizer.from_config(items.get_config()).estimator == "half"


@pytest.mark.usefixtures("half")
def test_a_new_estimator_is_held_to_what_it_says_it_needs():
    with pytest.raises(InputError, match=r"delta must be above 0 with the estimator ewgs, .* got 0\.5 with half"):
        Config.from_yaml("quantization: {estimator: half, delta: 0.5}")
    with pytest.raises(InputError, match="loss softmax has no exact Hessian trace here"):
        Config.from_yaml(
            "{propagation: {solver: none, normalize: false}, "
            "quantization: {bits: 1, method: fine_tuning, estimator: half}}"
        )


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="expected one of ewgs, gste, lsq, reste, ste, stochastic"):
        QuantizationConfig(estimator="half")
