"""Rows of b-bit codes with a scale per row: made from float rows, stored, and turned back. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.quantization.packing import check_num_bits, check_packed, pack, to_bit_planes, unpack
from tf_hqgnn.quantization.ranges import MIN_WIDTH, row_ranges
from tf_hqgnn.types import Array, BoolArray, Float32Array, FloatArray, InputError, IntArray, UInt8Array

CHUNK_ROWS = 65536


@dataclass(frozen=True, eq=False)
class Codes:
    """Rows of d codes of b bits: row r stands for `offset[r] + scale[r] (2 c / (2^b - 1) - 1)`.

    The codes are the nearest levels of the range that is *stored*: rounding it to float16 adds an error only to values
    that this leaves outside of it. In float16 a scale (or offset) between 2^-14 and 65504 is off by at most
    2^-11 of itself, a smaller one by at most 2^-25. Without clipping (5 to 8 bits, ranges not given), with the largest
    magnitude M of a row, every value is off by less than

        scale / (2^b - 1) + 2^-10 M + 2^-24.

    Args:
      packed: uint8 [n, ceil(d b / 8)], as by `pack`.
      scale: float16 [n], half the width of each row's range; [1] if all rows share one.
      offset: float16, the middle of the range, with the shape of `scale`; None if it is 0 (symmetric).
      num_bits: b, 1 to 8.
      dim: d.

    Raises:
      ValueError: The arrays don't fit each other, or hold what can't have come from `quantize`.

    >>> codes = Codes.quantize(np.array([[0.5, -1.0, 0.75], [0.0, 0.0, 0.0]]), num_bits=1)
    >>> codes.dequantize().tolist()
    [[0.75, -0.75, 0.75], [0.0, 0.0, 0.0]]
    >>> print(codes)
    2 rows of 3 x 1 bits, 3 bytes each
    """

    packed: UInt8Array
    scale: npt.NDArray[np.float16]
    offset: npt.NDArray[np.float16] | None
    num_bits: int
    dim: int

    def __post_init__(self) -> None:
        check_num_bits(self.num_bits)
        check_packed(self.packed, self.num_bits, self.dim)
        spare = 8 * self.packed.shape[1] - self.dim * self.num_bits
        if spare and np.any(self.packed[:, -1] >> np.uint8(8 - spare)):
            raise ValueError(
                f"the last {spare} bits of a packed row must be 0, but some aren't: are num_bits={self.num_bits} and "
                f"dim={self.dim} those that the rows were packed with?"
            )
        for name in ("scale", "offset"):
            values = getattr(self, name)
            if name == "offset" and values is None:
                continue
            if values.dtype != np.float16 or values.shape not in ((len(self.packed),), (1,)):
                raise ValueError(
                    f"{name} must be float16 [{len(self.packed)}] or [1], got {values.dtype} {list(values.shape)}"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity in {(~np.isfinite(values)).sum()} rows")
        if np.any(self.scale < 0):
            raise ValueError(f"scale must be >= 0, got {self.scale.min()}")
        if self.offset is not None and self.offset.shape != self.scale.shape:
            raise ValueError(f"scale and offset need one shape, got {self.scale.shape} and {self.offset.shape}")
        for name in ("packed", "scale", "offset"):
            if getattr(self, name) is not None:
                view = getattr(self, name).view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @classmethod
    def quantize(
        cls,
        rows: FloatArray,
        num_bits: int,
        *,
        symmetric: bool = True,
        ranges: tuple[FloatArray, FloatArray] | None = None,
    ) -> Codes:
        """Round float rows to their nearest codes; halfway between two, to the upper one.

        Args:
          rows: float [n, d], finite; d >= 1.
          num_bits: 1 to 8.
          symmetric: Whether the range of a row is centred on 0, and no offset stored.
          ranges: Learned `(lower, upper)`, float [n] each, or [1] for one range for all rows; None for `row_ranges`.

        Raises:
          ValueError: The rows aren't finite [n, d]; the ranges don't fit; a scale or offset exceeds float16.
        """
        check_num_bits(num_bits)
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise ValueError(f"rows must be float [n, d] with d >= 1, got shape {list(rows.shape)}")
        if not np.isfinite(rows).all():
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            raise ValueError(f"{len(bad)} rows hold NaN or infinity, the first is row {bad[0]}: did training diverge?")
        if ranges is None:
            lower, upper = (end[:, 0] for end in row_ranges(rows, num_bits, symmetric))
        else:
            lower, upper = _checked_ranges(ranges, len(rows))
        if symmetric and not np.array_equal(lower, -upper):
            raise ValueError("symmetric codes need ranges with lower = -upper; pass symmetric=False for others")
        # Halved before they are combined: the width of a range may exceed float32 where its ends don't.
        scale = _to_float16("scale", upper / 2 - lower / 2)
        offset = None if symmetric else _to_float16("offset", upper / 2 + lower / 2)
        codes = np.empty(rows.shape, np.uint8)
        for start in range(0, len(rows), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            low, width = _stored_range(scale, offset, part)
            unit = np.clip((rows[part] - low) / np.maximum(width, np.float32(MIN_WIDTH)), 0, 1)
            codes[part] = np.floor(unit * np.float32(2**num_bits - 1) + np.float32(0.5))
        return cls(pack(codes, num_bits), scale, offset, num_bits, rows.shape[1])

    def with_scale(self, scale: FloatArray) -> Codes:
        """The same codes, which stand for other values: `scale (2 c / (2^b - 1) - 1)`, without an offset.

        Args:
          scale: float [n], or [1] if all rows share one; >= 0.

        Raises:
          ValueError: A scale is negative, isn't finite, or exceeds float16.

        >>> Codes.quantize(np.array([[1.0, -1.0]]), num_bits=1).with_scale(np.array([3.0])).dequantize().tolist()
        [[3.0, -3.0]]
        """
        return replace(self, scale=_to_float16("scale", np.asarray(scale, np.float32)), offset=None)

    def unpack(self) -> UInt8Array:
        """Return the codes as uint8 [n, d]."""
        return unpack(self.packed, self.num_bits, self.dim)

    def bit_planes(self) -> UInt8Array:
        """The codes as uint8 [num_bits, n, ceil(d / 8)], see `to_bit_planes`."""
        return to_bit_planes(self.unpack(), self.num_bits)

    def dequantize(self, rows: slice | IntArray = slice(None)) -> Float32Array:
        """Return the values that the codes of `rows` (a slice or indices) stand for, float32 [n, d]."""
        low, width = _stored_range(self.scale, self.offset, rows)
        codes = unpack(self.packed[rows], self.num_bits, self.dim)
        return low + width * (codes / np.float32(2**self.num_bits - 1))

    def take(self, rows: IntArray | BoolArray) -> Codes:
        """Select the codes at `rows` (indices or a boolean mask), in that order."""
        # One range that all rows share stays as it is.
        own: IntArray | BoolArray | slice = slice(None) if len(self.scale) == 1 and len(self) != 1 else rows
        offset = None if self.offset is None else self.offset[own]
        return Codes(self.packed[rows], self.scale[own], offset, self.num_bits, self.dim)

    def __len__(self) -> int:
        return len(self.packed)

    def __str__(self) -> str:
        return f"{len(self)} rows of {self.dim} x {self.num_bits} bits, {self.bytes_per_item:g} bytes each"

    @property
    def num_bytes(self) -> int:
        """Number of bytes of all arrays."""
        offset = 0 if self.offset is None else self.offset.nbytes
        return self.packed.nbytes + self.scale.nbytes + offset

    @property
    def bytes_per_item(self) -> float:
        """`num_bytes` divided by the number of rows: scales, offsets and padding counted; 0 without rows."""
        return self.num_bytes / max(len(self), 1)

    def save(self, path: str | Path) -> None:
        """Writes an .npz at exactly `path`, uncompressed: `num_bytes` and the headers of its arrays."""
        arrays: dict[str, Array] = {"packed": self.packed, "scale": self.scale}
        if self.offset is not None:
            arrays["offset"] = self.offset
        with staged_file(Path(path)) as staged, staged.open("wb") as file:
            np.savez(file, num_bits=np.int32(self.num_bits), dim=np.int32(self.dim), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Codes:
        """Read what `save` wrote, without unpickling anything.

        Raises:
          InputError: The file isn't one of `save`, or is damaged.
        """
        arrays = read_arrays(Path(path), cure="train again")
        try:
            sizes = int(arrays["num_bits"]), int(arrays["dim"])
            return cls(arrays["packed"], arrays["scale"], arrays.get("offset"), *sizes)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} doesn't hold codes written by Codes.save: {error}; train again") from error


def _checked_ranges(ranges: tuple[FloatArray, FloatArray], num_rows: int) -> tuple[FloatArray, FloatArray]:
    lower, upper = (np.asarray(end, np.float32) for end in ranges)
    if lower.shape != upper.shape or lower.shape not in ((num_rows,), (1,)):
        raise ValueError(f"ranges must be two vectors of {num_rows} (or 1) values, got {lower.shape} and {upper.shape}")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and np.all(lower <= upper)):
        raise ValueError("ranges must be finite with lower <= upper in every row")
    return lower, upper


def _to_float16(name: str, values: FloatArray) -> npt.NDArray[np.float16]:
    largest = float(np.finfo(np.float16).max)
    if values.size and np.abs(values).max() > largest:
        raise ValueError(
            f"the {name} of a row is {np.abs(values).max():g}, float16 ends at {largest:g}: divide all rows by one "
            "number, the ranking stays the same"
        )
    return values.astype(np.float16)


def _stored_range(
    scale: npt.NDArray[np.float16], offset: npt.NDArray[np.float16] | None, rows: slice | IntArray
) -> tuple[Float32Array, Float32Array]:
    """The lower end and the width of the stored ranges of `rows`, float32 [n, 1] or [1, 1]."""
    select = slice(None) if len(scale) == 1 else rows
    reach = scale[select].astype(np.float32)[:, np.newaxis]
    middle = np.float32(0) if offset is None else offset[select].astype(np.float32)[:, np.newaxis]
    return middle - reach, 2 * reach
