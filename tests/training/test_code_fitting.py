import numpy as np
import pytest
from some_tables import some_tables

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.rotation import coding_rotation, refit_users
from tf_hqgnn.quantization.temperature import user_temperatures
from tf_hqgnn.training import code_fitting
from tf_hqgnn.training.code_fitting import fit_codes
from tf_hqgnn.training.distillation import distill

NUM_USERS, NUM_ITEMS, DIM = 80, 150, 8


@pytest.fixture(scope="module")
def tables():
    return some_tables(NUM_USERS, NUM_ITEMS, DIM)


@pytest.fixture(scope="module")
def seen():
    """Each user has seen three items, but the first one, who has seen them all."""
    random = np.random.default_rng(1)
    rows = [random.choice(NUM_ITEMS, 3, replace=False) for _ in range(NUM_USERS)]
    rows[0] = np.arange(NUM_ITEMS)
    return np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32)


@pytest.fixture(scope="module")
def temperature(tables, seen):
    return user_temperatures(*tables, seen, top_share=0.65, k=20, seed=0)


def divergence(tables, seen, temperature, users, items):
    """The mean over users of the divergence of two softmaxes over unseen items, without any shortcut."""
    found = []
    for user in range(1, NUM_USERS):
        unseen = np.setdiff1d(np.arange(NUM_ITEMS), seen[1][seen[0][user] : seen[0][user + 1]])
        logs = []
        for left, right in (tables, (users, items)):
            logits = (right[unseen].astype(np.float64) @ left[user]) / temperature[user]
            logs.append(logits - np.log(np.exp(logits).sum()))
        found.append((np.exp(logs[0]) * (logs[0] - logs[1])).sum())
    return float(np.mean(found))


@pytest.mark.parametrize("num_bits", [1, 2])
def test_rounds_lower_the_divergence_far_below_a_rotation_with_fitted_users(tables, seen, temperature, num_bits):
    found = []
    for num_rounds in (1, 4):
        users, codes = fit_codes(*tables, seen, temperature, num_bits, num_rounds, seed=0)
        assert (codes.num_bits, codes.dim, len(codes), codes.offset) == (num_bits, DIM, NUM_ITEMS, None)
        assert len(codes.scale) == NUM_ITEMS
        found.append(divergence(tables, seen, temperature, users, codes.dequantize()))
    rotated = tables[1] @ coding_rotation(tables[1], seed=0)
    decoded = Codes.quantize(rotated, num_bits).dequantize()
    simple = divergence(tables, seen, temperature, refit_users(*tables, decoded), decoded)
    assert found[1] < found[0] < 0.5 * simple


def test_the_scale_of_the_tables_does_not_matter(tables, seen, temperature):
    users, codes = fit_codes(*tables, seen, temperature, num_bits=1, num_rounds=2, seed=0)
    # Powers of two round alike.
    large_users, large = fit_codes(
        64 * tables[0], 1024 * tables[1], seen, 65536 * temperature, num_bits=1, num_rounds=2, seed=0
    )
    np.testing.assert_array_equal(codes.packed, large.packed)
    np.testing.assert_allclose(large_users, 64 * users, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(large.scale.astype(float), 1024 * codes.scale.astype(float), rtol=2e-3)


def test_users_that_codes_were_not_fitted_to_are_fitted_to_the_codes(tables, seen, temperature, monkeypatch):
    monkeypatch.setattr(code_fitting, "MOST_USERS", 32)
    users, codes = fit_codes(*tables, seen, temperature, num_bits=2, num_rounds=3, seed=0)
    rotated = tables[1] @ coding_rotation(tables[1], seed=0)
    decoded = Codes.quantize(rotated, 2).dequantize()
    simple = divergence(tables, seen, temperature, refit_users(*tables, decoded), decoded)
    assert divergence(tables, seen, temperature, users, codes.dequantize()) < 0.5 * simple


def test_rows_of_zeros_and_one_dimension_stay_finite(tables, seen):
    users, items = tables[0].copy(), tables[1].copy()
    users[3], items[4] = 0, 0
    for part in (slice(None), slice(1)):
        fitted, codes = fit_codes(users[:, part], items[:, part], seen, np.ones(NUM_USERS, np.float32), 1, 2, seed=0)
        assert np.isfinite(fitted).all()
        assert np.isfinite(codes.dequantize()).all()
    fitted, codes = fit_codes(users, np.zeros_like(items), seen, np.ones(NUM_USERS, np.float32), 1, 1, seed=0)
    assert not (fitted @ codes.dequantize().T).any()


@pytest.mark.parametrize(
    ("values", "is_fitted"),
    [
        ({"bits": 1}, True),
        ({"bits": 2}, True),
        ({"bits": 4}, False),
        ({"bits": 1, "mode": "per_tensor"}, False),
        ({"bits": 1, "symmetric": False}, False),
        ({"bits": 1, "distillation": {"fit_rounds": 0, "max_epochs": 1}}, False),
    ],
)
def test_distillation_starts_from_them_where_they_validate_best(tables, seen, temperature, values, is_fitted):
    """Five things are validated with fitted codes, the last one after an epoch; the one before last is the best."""
    config = QuantizationConfig(**({"distillation": {"max_epochs": 1, "fit_rounds": 1}} | values))
    validated = []

    def validate(users, items):
        validated.append((users, items))
        return float(len(validated) == 4)

    coded = distill(*tables, seen, config, 0, validate)
    assert len(validated) == (5 if is_fitted else 4)
    if is_fitted:
        users, codes = fit_codes(*tables, seen, temperature, config.bits, 1, seed=0)
        np.testing.assert_array_equal(coded.items.packed, codes.packed)
        np.testing.assert_array_equal(coded.items.scale, codes.scale)
        np.testing.assert_array_equal(coded.users.packed, Codes.quantize(users, 8).packed)
