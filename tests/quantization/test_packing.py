import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.quantization import packing
from tf_hqgnn.quantization.packing import check_num_bits, from_bit_planes, pack, to_bit_planes, unpack


def test_doctests():
    results = doctest.testmod(packing)
    assert results.attempted
    assert not results.failed


@st.composite
def some_codes(draw, num_bits):
    n, dim = draw(st.integers(0, 5)), draw(st.integers(1, 40))
    values = draw(st.lists(st.integers(0, 2**num_bits - 1), min_size=n * dim, max_size=n * dim))
    return np.array(values, np.uint8).reshape(n, dim)


@pytest.mark.parametrize("num_bits", range(1, 9))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_round_trips(num_bits, data):
    codes = data.draw(some_codes(num_bits))
    n, dim = codes.shape
    packed = pack(codes, num_bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (n, -(-dim * num_bits // 8))
    np.testing.assert_array_equal(unpack(packed, num_bits, dim), codes)
    planes = to_bit_planes(codes, num_bits)
    assert planes.shape == (num_bits, n, -(-dim // 8))
    np.testing.assert_array_equal(from_bit_planes(planes, dim), codes)


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_layout_is_one_little_endian_integer_a_row(num_bits):
    codes = np.random.default_rng(0).integers(0, 2**num_bits, size=(3, 13)).astype(np.uint8)
    for row, packed in zip(codes, pack(codes, num_bits)):
        number = sum(int(code) << (num_bits * j) for j, code in enumerate(row))
        assert int.from_bytes(packed.tobytes(), "little") == number


def test_planes_by_their_definition():
    codes = np.random.default_rng(0).integers(0, 8, size=(4, 11)).astype(np.uint8)
    planes = to_bit_planes(codes, 3)
    bits = [unpack(plane, 1, 11).astype(int) for plane in planes]
    np.testing.assert_array_equal(bits[0] + 2 * bits[1] + 4 * bits[2], codes)


def test_rows_come_in_chunks(monkeypatch):
    codes = np.random.default_rng(0).integers(0, 8, size=(11, 5)).astype(np.uint8)
    whole = pack(codes, 3)
    monkeypatch.setattr(packing, "CHUNK_ROWS", 4)
    np.testing.assert_array_equal(pack(codes, 3), whole)
    np.testing.assert_array_equal(unpack(whole, 3, 5), codes)


def test_eight_bits_are_a_copy():
    codes = np.zeros((2, 3), np.uint8)
    assert not np.shares_memory(pack(codes, 8), codes)
    assert not np.shares_memory(unpack(codes, 8, 3), codes)


@pytest.mark.parametrize("num_bits", [0, 9, -1, 2.0, True, "2", None])
def test_bad_num_bits(num_bits):
    with pytest.raises(ValueError, match="num_bits must be an integer from 1 to 8"):
        check_num_bits(num_bits)


def test_bad_codes():
    with pytest.raises(ValueError, match=r"codes must be uint8 \[n, d\], got int64 \[1, 2\]"):
        pack(np.array([[1, 2]]), 2)
    with pytest.raises(ValueError, match=r"codes must be uint8 \[n, d\], got uint8 \[2\]"):
        to_bit_planes(np.zeros(2, np.uint8), 2)
    with pytest.raises(ValueError, match="codes of 2 bits are below 4, got 4"):
        pack(np.array([[1, 4]], np.uint8), 2)
    with pytest.raises(ValueError, match="codes of 1 bits are below 2, got 2"):
        to_bit_planes(np.array([[1, 2]], np.uint8), 1)


def test_bad_packed():
    with pytest.raises(ValueError, match=r"5 codes of 2 bits are packed into uint8 \[n, 2\], got uint8 \[1, 3\]"):
        unpack(np.zeros((1, 3), np.uint8), 2, 5)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        unpack(np.zeros((1, 0), np.uint8), 2, 0)
    with pytest.raises(ValueError, match=r"9 codes a row are uint8 \[num_bits, n, 2\], got uint8 \[1, 1, 1\]"):
        from_bit_planes(np.zeros((1, 1, 1), np.uint8), 9)
    with pytest.raises(ValueError, match="num_bits must be an integer from 1 to 8, got 9"):
        from_bit_planes(np.zeros((9, 1, 1), np.uint8), 3)
