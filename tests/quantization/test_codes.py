import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_hqgnn.quantization import codes as module
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.packing import from_bit_planes
from tf_hqgnn.quantization.ranges import row_ranges


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 64)) * rng.uniform(0.01, 2, size=(300, 1))).astype(np.float32)


def test_doctests():
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("num_bits", [5, 6, 7, 8])
@given(
    rows=hnp.arrays(np.float32, (3, 7), elements=st.floats(-32768, 32768, width=32)),
    exponent=st.integers(-40, 0),
)
@settings(max_examples=40, deadline=None)
def test_stated_error(num_bits, symmetric, rows, exponent):
    rows = rows * np.float32(2.0**exponent)
    coded = Codes.quantize(rows, num_bits, symmetric=symmetric)
    error = np.abs(coded.dequantize().astype(np.float64) - rows).max(axis=1)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    assert np.all(error <= coded.scale.astype(np.float64) / (2**num_bits - 1) + 2.0**-10 * largest + 2.0**-24)


@given(st.floats(2.0**-30, 65504, width=32))
@settings(max_examples=200, deadline=None)
def test_float16_scale_within_the_stated_bounds(scale):
    coded = Codes.quantize(np.array([[scale, -scale]], np.float32), 8)
    error = abs(float(coded.scale[0]) - scale)
    assert error <= (2.0**-11 * scale if scale >= 2.0**-14 else 2.0**-25)


def test_eight_bits_are_indistinguishable_from_full_precision(rows):
    query = np.random.default_rng(1).normal(size=64).astype(np.float32)
    decoded = Codes.quantize(rows, 8).dequantize()
    # The bound on a value, added up over the query, bounds the score.
    bound = np.abs(query).sum() * np.abs(rows).max(axis=1) * (1 / 255 + 2.0**-10)
    assert np.all(np.abs(decoded @ query - rows @ query) <= bound)
    cosine = (decoded * rows).sum(axis=1) / np.linalg.norm(decoded, axis=1) / np.linalg.norm(rows, axis=1)
    assert cosine.min() > 0.9998
    norms = np.linalg.norm(decoded, axis=1) / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(norms, 1, atol=0.003)


@pytest.mark.parametrize("symmetric", [True, False])
def test_more_bits_less_error(rows, symmetric):
    def error(num_bits):
        return np.square(Codes.quantize(rows, num_bits, symmetric=symmetric).dequantize() - rows).sum()

    errors = [error(num_bits) for num_bits in range(1, 9)]
    # 6 dB a bit is a factor of 4; Gaussian rows lose a little of it.
    assert all(more > 2.5 * less for more, less in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("num_bits", [1, 2, 3, 4])
def test_ranges_have_the_least_error_of_their_kind(rows, num_bits):
    lower, upper = (end[:, 0] for end in row_ranges(rows, num_bits, symmetric=True))

    def error(factor):
        coded = Codes.quantize(rows, num_bits, ranges=(factor * lower, factor * upper))
        return np.square(coded.dequantize() - rows).sum()

    best = error(np.float32(1))
    assert all(best < error(np.float32(factor)) for factor in (0.8, 1.2))


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_codes_are_the_nearest_levels(rows, num_bits):
    coded = Codes.quantize(rows, num_bits, symmetric=False)
    steps = 2**num_bits - 1
    offset, scale = coded.offset.astype(np.float64)[:, None, None], coded.scale.astype(np.float64)[:, None, None]
    levels = offset + scale * (2 * np.arange(steps + 1) / steps - 1)
    distance = np.abs(rows[:, :, None] - levels)
    chosen = np.take_along_axis(distance, coded.unpack()[:, :, None].astype(int), axis=2)[:, :, 0]
    assert np.all(chosen <= distance.min(axis=2) + 1e-6 * np.abs(rows).max())
    stands_for = np.take_along_axis(levels, coded.unpack()[:, :, None].astype(int), axis=2)[:, :, 0]
    np.testing.assert_allclose(coded.dequantize(), stands_for, atol=1e-5)


def test_one_symmetric_bit_is_the_sign_times_the_mean_magnitude():
    coded = Codes.quantize(np.array([[1.0, -3.0, 0.0, 4.0]]), 1)
    assert coded.unpack().tolist() == [[1, 0, 1, 1]]
    assert coded.dequantize().tolist() == [[2.0, -2.0, 2.0, 2.0]]
    assert coded.offset is None


@pytest.mark.parametrize("num_bits", [1, 3, 8])
def test_constant_rows_are_exact(num_bits):
    rows = np.array([[0.0] * 5, [0.25] * 5, [-3.0] * 5], np.float32)
    np.testing.assert_array_equal(Codes.quantize(rows, num_bits, symmetric=False).dequantize(), rows)
    assert not Codes.quantize(rows[:1], num_bits).dequantize().any()


def test_parts_of_the_rows(rows):
    coded = Codes.quantize(rows, 3, symmetric=False)
    np.testing.assert_array_equal(coded.dequantize(slice(5, 9)), coded.dequantize()[5:9])
    np.testing.assert_array_equal(coded.dequantize(np.array([7, 2])), coded.dequantize()[[7, 2]])


def test_chunks_are_coded_alike(rows, monkeypatch):
    whole = Codes.quantize(rows, 4, symmetric=False)
    monkeypatch.setattr(module, "CHUNK_ROWS", 128)
    np.testing.assert_array_equal(Codes.quantize(rows, 4, symmetric=False).packed, whole.packed)


def test_given_ranges():
    rows = np.array([[0.0, 1.0, 9.0], [0.0, 1.0, 9.0]])
    each = Codes.quantize(rows, 2, symmetric=False, ranges=(np.array([0.0, 1.0]), np.array([3.0, 7.0])))
    assert each.unpack().tolist() == [[0, 1, 3], [0, 0, 3]]
    assert each.dequantize().tolist() == [[0.0, 1.0, 3.0], [1.0, 1.0, 7.0]]
    shared = Codes.quantize(rows, 2, ranges=(np.array([-3.0]), np.array([3.0])))
    assert shared.dequantize(np.array([1])).tolist() == [[1.0, 1.0, 3.0]]
    assert shared.num_bytes == 2 * 1 + 2


@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_saved_and_counted(rows, num_bits, symmetric, tmp_path):
    coded = Codes.quantize(rows, num_bits, symmetric=symmetric)
    assert coded.bytes_per_item == 8 * num_bits + (2 if symmetric else 4)
    path = tmp_path / "codes"
    coded.save(path)
    again = Codes.load(path)
    assert (again.num_bits, again.dim, len(again)) == (num_bits, 64, 300)
    np.testing.assert_array_equal(again.dequantize(), coded.dequantize())
    arrays = [array for array in (again.packed, again.scale, again.offset) if array is not None]
    assert again.num_bytes == again.bytes_per_item * 300 == sum(array.nbytes for array in arrays)
    # On disk: that, and less than 400 bytes for each of at most five headers.
    assert again.num_bytes < path.stat().st_size < again.num_bytes + 2000
    np.testing.assert_array_equal(from_bit_planes(again.bit_planes(), 64), coded.unpack())


def test_printed():
    assert str(Codes.quantize(np.ones((4, 64)), 4)) == "4 rows of 64 x 4 bits, 34 bytes each"


def test_no_rows(tmp_path):
    coded = Codes.quantize(np.zeros((0, 5)), 3, symmetric=False)
    coded.save(tmp_path / "codes.npz")
    assert Codes.load(tmp_path / "codes.npz").dequantize().shape == (0, 5)
    assert coded.bytes_per_item == 0


def test_immutable_without_touching_the_callers_arrays():
    packed, scale = np.zeros((1, 1), np.uint8), np.ones(1, np.float16)
    coded = Codes(packed, scale, None, 1, 8)
    with pytest.raises(ValueError, match="read-only"):
        coded.packed[0, 0] = 1
    packed[0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bits": 9}, "num_bits must be"),
        ({"dim": 9}, r"9 codes of 2 bits are packed into uint8 \[n, 3\], got uint8 \[1, 1\]"),
        ({"packed": np.array([[64]], np.uint8)}, "the last 2 bits of a packed row must be 0.*num_bits=2 and dim=3"),
        ({"scale": np.ones(1, np.float32)}, r"scale must be float16 \[1\] or \[1\], got float32 \[1\]"),
        ({"offset": np.ones(2, np.float16)}, r"offset must be float16 \[1\] or \[1\], got float16 \[2\]"),
        ({"scale": np.array([np.nan], np.float16)}, "scale must be finite, got NaN or infinity in 1 rows"),
        ({"offset": np.array([np.inf], np.float16)}, "offset must be finite"),
        ({"scale": np.array([-1], np.float16)}, "scale must be >= 0, got -1.0"),
        (
            {"packed": np.zeros((2, 1), np.uint8), "scale": np.ones(2, np.float16), "offset": np.ones(1, np.float16)},
            r"scale and offset need one shape, got \(2,\) and \(1,\)",
        ),
    ],
)
def test_bad_parts(changes, message):
    parts = {"packed": np.zeros((1, 1), np.uint8), "scale": np.ones(1, np.float16), "offset": None}
    Codes(**parts, num_bits=2, dim=3)
    with pytest.raises(ValueError, match=message):
        Codes(**{**parts, "num_bits": 2, "dim": 3, **changes})


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (np.zeros(3), {}, r"rows must be float \[n, d\] with d >= 1, got shape \[3\]"),
        (np.zeros((3, 0)), {}, r"got shape \[3, 0\]"),
        (np.array([[0.0], [np.nan], [np.inf]]), {}, "2 rows hold NaN or infinity, the first is row 1"),
        (np.array([[1e5]]), {}, "the scale of a row is 100000, float16 ends at 65504: divide all rows"),
        (np.array([[1e5, 1e5]]), {"symmetric": False}, "the offset of a row is 100000"),
        (np.array([[3e38, -3e38]]), {"symmetric": False}, "the scale of a row is 3e"),
        (np.zeros((2, 1)), {"ranges": (np.zeros(3), np.ones(3))}, r"two vectors of 2 \(or 1\) values, got \(3,\)"),
        (np.zeros((2, 1)), {"ranges": (np.ones(2), np.zeros(2))}, "finite with lower <= upper"),
        (np.zeros((2, 1)), {"ranges": (np.zeros(2), np.array([1, np.nan]))}, "finite with lower <= upper"),
        (np.zeros((2, 1)), {"ranges": (np.zeros(2), np.ones(2))}, "lower = -upper; pass symmetric=False"),
    ],
)
def test_bad_rows(rows, settings, message):
    with pytest.raises(ValueError, match=message):
        Codes.quantize(rows, 8, **settings)


def test_bad_files(tmp_path):
    path = tmp_path / "codes.npz"
    Codes.quantize(np.ones((4, 3)), 2).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"codes.npz: the file is damaged \(.*\); train again"):
        Codes.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="the file is damaged"):
        Codes.load(path)
    np.savez(path, packed=np.zeros((1, 1), np.uint8))
    with pytest.raises(ValueError, match="doesn't hold codes"):
        Codes.load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ValueError, match="the file is damaged"):
        Codes.load(path.with_suffix(".npy"))
    np.savez(path, packed=np.array([object()]), scale=1, num_bits=1, dim=1)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Codes.load(path)
