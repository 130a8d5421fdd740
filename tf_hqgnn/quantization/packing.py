"""Codes of 1 to 8 bits side by side in bytes, and as bit planes. NumPy only."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import UInt8Array

# Bits are spread to a byte each on the way: a part of the rows at a time, so that this takes some MB, not GB.
CHUNK_ROWS = 65536


def check_num_bits(num_bits: int) -> None:
    """Raises ValueError unless `num_bits` is an integer from 1 to 8."""
    if isinstance(num_bits, bool) or not isinstance(num_bits, (int, np.integer)) or not 1 <= num_bits <= 8:
        raise ValueError(f"num_bits must be an integer from 1 to 8, got {num_bits!r}")


def pack(codes: UInt8Array, num_bits: int) -> UInt8Array:
    """Codes of b bits, side by side without gaps.

    Bit p of code j becomes bit `j b + p` of its row, and bit m of a row is bit `m mod 8` (of value `2^(m mod 8)`) of
    byte `m // 8`; the bits that are left over in the last byte are 0.

    Args:
      codes: uint8 [n, d], each below 2^num_bits.
      num_bits: b, 1 to 8.

    Returns:
      uint8 [n, ceil(d b / 8)].

    Raises:
      ValueError: The codes aren't uint8 [n, d], or one of them needs more bits.

    >>> pack(np.array([[1, 2, 3, 0, 1]], np.uint8), num_bits=2).tolist()  # 1 + 2 * 4 + 3 * 16, then 1
    [[57, 1]]
    """
    _check_codes(codes, num_bits)
    if num_bits == 8:
        return codes.copy()
    n, dim = codes.shape
    packed = np.empty((n, _packed_width(dim, num_bits)), np.uint8)
    for start in range(0, n, CHUNK_ROWS):
        chunk = codes[start : start + CHUNK_ROWS]
        bits = np.unpackbits(chunk[:, :, np.newaxis], axis=2, count=num_bits, bitorder="little")
        packed[start : start + CHUNK_ROWS] = np.packbits(bits.reshape(len(chunk), -1), axis=1, bitorder="little")
    return packed


def unpack(packed: UInt8Array, num_bits: int, dim: int) -> UInt8Array:
    """What was packed: the exact inverse of `pack`.

    Args:
      packed: uint8 [n, ceil(dim num_bits / 8)].
      num_bits: 1 to 8.
      dim: The number of codes in a row.

    Returns:
      uint8 [n, dim].

    Raises:
      ValueError: `packed` doesn't have the shape that `num_bits` and `dim` ask for.

    >>> unpack(np.array([[57, 1]], np.uint8), num_bits=2, dim=5).tolist()
    [[1, 2, 3, 0, 1]]
    """
    check_num_bits(num_bits)
    check_packed(packed, num_bits, dim)
    if num_bits == 8:
        return packed.copy()
    codes = np.empty((len(packed), dim), np.uint8)
    for start in range(0, len(packed), CHUNK_ROWS):
        chunk = packed[start : start + CHUNK_ROWS]
        bits = np.unpackbits(chunk, axis=1, count=dim * num_bits, bitorder="little").reshape(len(chunk), dim, num_bits)
        codes[start : start + CHUNK_ROWS] = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]
    return codes


def to_bit_planes(codes: UInt8Array, num_bits: int) -> UInt8Array:
    """Bit p of every code, for each p: `codes = sum_p 2^p plane_p`, the form that AND, XOR and popcount work on.

    Args:
      codes: uint8 [n, d], each below 2^num_bits.
      num_bits: 1 to 8.

    Returns:
      uint8 [num_bits, n, ceil(d / 8)], each plane packed as by `pack` with 1 bit.

    Raises:
      ValueError: As in `pack`.

    >>> to_bit_planes(np.array([[1, 2, 3]], np.uint8), num_bits=2).tolist()
    [[[5]], [[6]]]
    """
    _check_codes(codes, num_bits)
    return np.stack([np.packbits(codes >> p & 1, axis=1, bitorder="little") for p in range(num_bits)])


def from_bit_planes(planes: UInt8Array, dim: int) -> UInt8Array:
    """The codes whose bit planes these are: the exact inverse of `to_bit_planes`.

    Args:
      planes: uint8 [num_bits, n, ceil(dim / 8)].
      dim: The number of codes in a row.

    Returns:
      uint8 [n, dim].

    Raises:
      ValueError: The planes don't have that shape.

    >>> from_bit_planes(np.array([[[5]], [[6]]], np.uint8), dim=3).tolist()
    [[1, 2, 3]]
    """
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[2] != _packed_width(dim, 1):
        raise ValueError(
            f"bit planes of {dim} codes a row are uint8 [num_bits, n, {_packed_width(dim, 1)}], "
            f"got {planes.dtype} {list(planes.shape)}"
        )
    check_num_bits(len(planes))
    codes = np.zeros((planes.shape[1], dim), np.uint8)
    for p, plane in enumerate(planes):
        codes |= np.unpackbits(plane, axis=1, count=dim, bitorder="little") << np.uint8(p)
    return codes


def _packed_width(dim: int, num_bits: int) -> int:
    return -(-dim * num_bits // 8)


def _check_codes(codes: UInt8Array, num_bits: int) -> None:
    check_num_bits(num_bits)
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise ValueError(f"codes must be uint8 [n, d], got {codes.dtype} {list(codes.shape)}")
    if codes.size and codes.max() >= 2**num_bits:
        raise ValueError(f"codes of {num_bits} bits are below {2**num_bits}, got {codes.max()}")


def check_packed(packed: UInt8Array, num_bits: int, dim: int) -> None:
    """Raises ValueError unless `packed` is uint8 [n, ceil(dim num_bits / 8)] with dim >= 1."""
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    expected = _packed_width(dim, num_bits)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != expected:
        raise ValueError(
            f"{dim} codes of {num_bits} bits are packed into uint8 [n, {expected}], got {packed.dtype} "
            f"{list(packed.shape)}"
        )
