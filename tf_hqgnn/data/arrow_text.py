"""Columns of delimited text by pyarrow, where the text is regular."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import csv

from tf_hqgnn.data.records import QUOTELESS, record_ends

_ARROW_BLOCK_BYTES = 8 << 20


def read_columns(
    block: bytes, delimiter: bytes, num_columns: int, types: Mapping[int, pa.DataType], decimal_point: str = "."
) -> pa.Table | None:
    r"""Some columns of a block of whole rows without a header; None if a row isn't as `records` would read it.

    Args:
      block: text with at least one row.
      delimiter: one byte.
      num_columns: of every row.
      types: by position, of the columns to read.
      decimal_point: of numbers.

    >>> read_columns(b"u,i,5\nv,j,6\n", b",", 3, {0: pa.utf8()}).to_pydict()
    {'0': ['u', 'v']}
    >>> read_columns(b"u,i,5\nv,j\n", b",", 3, {0: pa.utf8()}) is None
    True
    """
    quoted = b'"' in block and delimiter not in QUOTELESS
    if quoted and (block.count(b'"') % 2 or record_ends(block, delimiter) is None):
        return None
    try:
        return csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=[str(number) for number in range(num_columns)], block_size=_ARROW_BLOCK_BYTES),
            csv.ParseOptions(
                delimiter=delimiter.decode(), quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            # No null values: `NA` and `null` are ids like any other, and an empty number is an error.
            csv.ConvertOptions(
                column_types={str(number): kind for number, kind in types.items()},
                include_columns=[str(number) for number in types],
                null_values=[],
                decimal_point=decimal_point,
            ),
        )
    except pa.ArrowInvalid:
        return None
