"""Tables in memory (pandas, polars, Arrow, sparse matrices) as Arrow columns; the caller's table stays as it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.id_types import IdType
from tf_hqgnn.types import Array, InputError

_EXPECTED = "a pandas or polars DataFrame, an Arrow table, a scipy sparse matrix or a path"
# What others call the ids, without what separates words.
_OTHER_NAMES = {
    "user_id": re.compile("(user|customer|visitor|reviewer|account|member|person)(id|s)?"),
    "item_id": re.compile("(item|movie|product|article|track|song|artist|book|business|recipe|parentasin|asin)(id|s)?"),
}
_ADVICE = "expected one type of strings or integers in it: cast the column"


@dataclass(frozen=True)
class Frame:
    """Some columns of a table.

    Args:
      name: of the argument that it came in, for messages.
      table: the columns under the names of the input contract.
      id_types: of each column of ids.
      library: of which answers are made: `polars` for polars, else `pandas`.
      found: the names of all columns of the table.
    """

    name: str
    table: pa.Table
    id_types: Mapping[str, IdType]
    library: Literal["pandas", "polars"]
    found: tuple[Any, ...] = ()


def library_of(table: Any) -> str | None:
    """`pandas`, `polars`, `arrow` or `scipy` for what `to_frame` can read; None for anything else."""
    for library in ("pandas", "polars"):
        module = sys.modules.get(library)
        if module is not None and isinstance(table, module.DataFrame):
            return library
    if isinstance(table, pa.Table | pa.RecordBatch):
        return "arrow"
    sparse = sys.modules.get("scipy.sparse")
    return "scipy" if sparse is not None and sparse.issparse(table) else None


def to_frame(
    table: Any,
    name: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Mapping[str, Any] | None = None,
) -> Frame:
    """Takes the columns that are read out of a table.

    Args:
      table: a DataFrame, an Arrow table or a sparse matrix.
      name: of the argument, for messages.
      required: columns of ids that must be there.
      optional: columns that may be there.
      columns: what columns of the contract are called in the table, where that is something else.

    Raises:
      InputError: It is none of these; a column isn't there, is there twice, or can't be read.
    """
    library = library_of(table)
    if library is None:
        hint = "; call .collect() first" if type(table).__name__ == "LazyFrame" else ""
        raise InputError(f"{name}: expected {_EXPECTED}, got {type(table).__module__}.{type(table).__name__}{hint}")
    if library == "scipy":
        table = _of_matrix(table, name)
    found = list(table.schema.names if library in ("arrow", "scipy") else table.columns)
    places = _places(found, name, required, optional, columns or {}, table)
    read, id_types = {}, {}
    for column, place in places.items():
        try:
            values, kind = _column(table, place)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{name}: column {column} can't be read ({_reason(error)}); {_ADVICE}") from error
        if column in required:
            id_types[column] = IdType.of(values.type, kind)
            values = _whole_numbers(values, name, column)
        read[column] = values
    return Frame(name, pa.table(read), id_types, "polars" if library == "polars" else "pandas", tuple(found))


def _places(
    found: list[Any],
    name: str,
    required: Sequence[str],
    optional: Sequence[str],
    columns: Mapping[str, Any],
    table: Any,
) -> dict[str, int]:
    """Where each column of the contract is."""
    known = (*required, *optional)
    for column, other in columns.items():
        if column not in known:
            raise InputError(f"columns: {column!r} is not a column that {name} has; expected {', '.join(known)}")
        if other not in found:
            raise InputError(f"columns: {name} has no column {other!r} for {column}; found: {_shown(found)}")
    places = {}
    for column in known:
        wanted = columns.get(column, column)
        at = [place for place, one in enumerate(found) if type(one) is type(wanted) and one == wanted]
        if len(at) > 1:
            raise InputError(f"{name}: column {wanted} appears {len(at)} times; expected it once, rename the others")
        if at:
            places[column] = at[0]
    absent = [column for column in required if column not in places]
    if absent:
        raise InputError(
            f"{name}: no column {' and no column '.join(absent)}; found: {_shown(found)}; "
            f"{_cure(absent, found, list(getattr(getattr(table, 'index', None), 'names', [])))}"
        )
    return places


def _cure(absent: Sequence[str], found: Sequence[Any], index: Sequence[Any]) -> str:
    if set(absent) & set(index):
        return "the index has that name: pass .reset_index()"
    names = {}
    for column in absent:
        meant = [one for one in found if _OTHER_NAMES[column].fullmatch(re.sub("[^a-z]", "", str(one).lower()))]
        names[column] = meant[0] if meant else "..."
    return f"rename the columns, or pass columns={names}"


def _shown(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names[:20])) or "none"


def _column(table: Any, place: int) -> tuple[pa.Array | pa.ChunkedArray, str]:
    """A column, and the name of its type in pandas, empty for other libraries."""
    library = library_of(table)
    if library == "arrow":
        return table.column(place), ""
    if library == "polars":
        return table.to_series(place).to_arrow(), ""
    series = table.iloc[:, place]
    kind = str(series.dtype)
    if kind.startswith("Sparse"):
        series = series.sparse.to_dense()
    try:
        return pa.array(series, from_pandas=True), kind
    except (pa.ArrowException, TypeError) as error:
        # Arrow's words are about its own types.
        types = sorted({type(value).__name__ for value in series[series.notna()]})
        raise TypeError(f"it holds {' and '.join(types)}") from error


def _whole_numbers(values: pa.Array | pa.ChunkedArray, name: str, column: str) -> pa.Array | pa.ChunkedArray:
    """Ids that pandas has made floats of, because some are missing, as the integers that they were."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not pa.types.is_floating(kind):
        return values
    numbers: Array = np.asarray(
        pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
        if isinstance(values, pa.Array)
        else pc.cast(values, pa.float64()).to_numpy()
    )
    present = ~np.isnan(numbers)
    odd = present & ~(np.abs(numbers) < 2.0**53)
    odd[present & ~odd] = numbers[present & ~odd] % 1 != 0
    if odd.any():
        raise InputError(
            f"{name}: column {column} holds {numbers[odd][0]:g}, which is not a whole number; expected strings or "
            "integers as ids, cast the column"
        )
    return pa.array(np.where(present, numbers, 0).astype(np.int64), mask=~present)


def _of_matrix(matrix: Any, name: str) -> pa.Table:
    """The entries of a sparse matrix: row and column numbers, and the values where they aren't all 1."""
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: expected a sparse matrix of real numbers with two dimensions, got {matrix.dtype} with "
            f"{matrix.ndim}"
        )
    entries = matrix.tocoo()
    # A stored 0 is no interaction, as everywhere in scipy.
    there = entries.data != 0
    read = {"user_id": entries.row[there].astype(np.int64), "item_id": entries.col[there].astype(np.int64)}
    if not (entries.data[there] == 1).all():
        read["weight"] = entries.data[there].astype(np.float64)
    return pa.table(read)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
