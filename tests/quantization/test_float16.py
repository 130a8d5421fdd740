"""Tables of any magnitude are coded: a power of two changes no ranking, and float16 holds what is left."""

import logging

import numpy as np
import pytest

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.float16 import fit_float16, float16_exponent
from tf_hqgnn.training.coding import post_training_codes

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(50, 8)).astype(np.float32)


def test_rows_of_usual_size_stay_as_they_are():
    assert float16_exponent(ROWS) == 0
    assert fit_float16(ROWS, "items") is ROWS
    assert float16_exponent(np.zeros((3, 2), np.float32)) == 0
    assert float16_exponent(np.zeros((0, 2), np.float32)) == 0


@pytest.mark.parametrize("factor", [1e-38, 1e-12, 1e-7, 1e-5, 1e5, 1e9, 1e37])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["per_row", "per_tensor"])
def test_the_codes_of_a_table_of_any_size_rank_as_those_of_usual_size(factor, bits, mode, caplog):
    """Bit for bit: a power of two changes nothing but the exponents of the ranges."""
    power = np.float32(2.0 ** np.round(np.log2(factor)))
    config = QuantizationConfig(bits=bits, user_bits=bits, mode=mode, method="post_training")
    expected = post_training_codes(ROWS, ROWS, config).items
    with caplog.at_level(logging.INFO):
        fitted = fit_float16(ROWS * power, "items")
    found = post_training_codes(fitted, fitted, config).items
    np.testing.assert_array_equal(found.unpack(), expected.unpack())
    assert (found.scale > 0).all()
    assert np.isfinite(found.scale).all()
    assert "the embeddings of items are multiplied by 2^" in caplog.text


def test_what_no_power_of_two_brings_into_range_is_counted(caplog):
    rows = np.concatenate([ROWS * np.float32(1e6), ROWS[:2] * np.float32(1e-12)])
    with caplog.at_level(logging.WARNING):
        fitted = fit_float16(rows, "users")
    assert caplog.messages == [
        "codes: the embeddings of 2 users are so much shorter than the longest one that their codes are zero"
    ]
    codes = Codes.quantize(fitted, 8)
    assert (codes.scale[:-2] > 0).all()
    assert not codes.scale[-2:].any()
