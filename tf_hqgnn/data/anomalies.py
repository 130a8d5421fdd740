"""What makes a day's log unlike those before it: columns, types, ids of another kind, too many rows or too few."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.chunks import ID_COLUMNS
from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.types import InputError

# Ids of a column whose kinds are looked at.
_SAMPLE = 10_000
_TEXT, _INTEGER = "strings", "integers"


@dataclass(frozen=True)
class FileProfile:
    """What a file of a log looks like.

    Args:
      name: its path.
      span: its number; None where the log has no spans.
      rows: all rows read, bad ones included.
      columns: which of the known columns it has.
      types: `strings` or `integers`, by id column.
      kinds: by id column, the share of each kind of characters that its distinct ids are made of.
      time_unit: of the timestamps; None where it can't be told.
      is_first: whether the log has no file before it.
    """

    name: str
    span: int | None
    rows: int
    columns: tuple[str, ...]
    types: Mapping[str, str]
    kinds: Mapping[str, Mapping[str, float]]
    time_unit: str | None = None
    is_first: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {**asdict(self), "columns": list(self.columns)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> FileProfile:
        """The profile that `to_json` wrote."""
        return FileProfile(**{**values, "columns": tuple(values["columns"])})


def id_types(path: Path, format: str, columns: ColumnNames = STANDARD_NAMES) -> dict[str, str]:
    """Whether each id column of a file holds `strings` or `integers`; strings where the format doesn't tell."""
    integers = INPUT_FORMATS[format](columns).integer_ids(path)
    return {name: _INTEGER if name in integers else _TEXT for name in ID_COLUMNS}


def id_kinds(ids: pa.Array) -> dict[str, float]:
    """The share of distinct ids made of digits, of letters, of other characters, and of mixtures of these.

    Args:
      ids: distinct strings; of more than 10,000 those at equal distances are looked at.

    Example:
      >>> id_kinds(pa.array(["12", "7", "a7", "x-1"]))
      {'digits': 0.5, 'digits and letters': 0.25, 'digits, letters and others': 0.25}
    """
    sample = ids.take(pa.array(range(0, len(ids), max(1, len(ids) // _SAMPLE))))
    kinds: dict[str, float] = {}
    has = {
        "digits": pc.match_substring_regex(sample, r"\d"),
        "letters": pc.match_substring_regex(sample, r"\pL"),
        "others": pc.match_substring_regex(sample, r"[^\d\pL]"),
    }
    for flags in zip(*(column.to_pylist() for column in has.values())):
        names = [name for name, flag in zip(has, flags) if flag]
        kind = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        kinds[kind] = kinds.get(kind, 0.0) + 1 / len(sample)
    return kinds


def check_files(
    last: FileProfile,
    before: Sequence[FileProfile],
    max_growth: float | None = None,
    max_id_drift: float | None = None,
) -> None:
    """Refuses a log whose last file isn't like those before it.

    Args:
      last: of today.
      before: earlier files of the same log, the latest last; nothing is compared without any.
      max_growth: so many times the median rows of those before are too many, and a share of 1 by that too few; None
        lets any number pass. Files with and without spans aren't compared. The first file of a log may be its
        history, which holds many days and doesn't say how large a day is: the second one is never too small, and
        those after it are compared with days alone.
      max_id_drift: the largest share of ids that may be of another kind; None lets any pass.

    Raises:
      InputError: The anomaly in words.
    """
    if not before:
        return
    first = before[-1]
    for column in sorted({*first.columns, *last.columns}):
        for one, other in ((last, first), (first, last)):
            if column not in one.columns:
                raise InputError(
                    f"{one.name}: no column {column}, which {other.name} has; expected the same columns in every file "
                    "of a log, add it, or leave it out everywhere"
                )
    for column, kind in last.types.items():
        if kind != first.types[column]:
            raise InputError(
                f"{last.name}: {column} holds {kind}, but {first.types[column]} in {first.name}; the same id must be "
                "of the same type, cast the column"
            )
    check_time_units([*before, last])
    for column, kinds in last.kinds.items():
        usual_kinds = first.kinds[column]
        moved = sum(max(0.0, share - usual_kinds.get(kind, 0.0)) for kind, share in kinds.items())
        if max_id_drift is not None and moved > max_id_drift:
            raise InputError(
                f"{last.name}: the ids of {column} are of another kind ({_describe(kinds)}) than in {first.name} "
                f"({_describe(usual_kinds)}); expected the same ids day after day, mend the export, or let "
                "them pass with --set data.max_id_drift=null"
            )
    sizes: Sequence[int] = [file.rows for file in before if (file.span is None) == (last.span is None)]
    if max_growth is None or not sizes:
        return
    if before[0].is_first:
        sizes = _without_history(sizes, max_growth)
    usual = statistics.median(sizes)
    may_be_history = len(before) == 1 and first.is_first and first.name != last.name
    for size, than, word in ((last.rows, usual, "more"), (usual, last.rows, "fewer")):
        if size >= max_growth * than and not (word == "fewer" and may_be_history):
            raise InputError(
                f"{last.name}: {last.rows:,} rows, {size / max(than, 1):.1f} times {word} than the {usual:,.0f} of the "
                f"files before it; less than {max_growth:g} times is allowed: mend the export, or let it pass with "
                "--set data.max_growth=null"
            )


def _without_history(sizes: Sequence[int], max_growth: float) -> Sequence[int]:
    """The sizes without the first ones that are many times those after them: a history before the first day.

    Example:
      >>> _without_history([38_000, 2_000, 2_100], 10.0), _without_history([38_000], 10.0)
      ([2000, 2100], [38000])
    """
    while len(sizes) > 1 and sizes[0] >= max_growth * statistics.median(sizes[1:]):
        sizes = sizes[1:]
    return sizes


def check_time_units(files: Sequence[FileProfile]) -> None:
    """Raises InputError where the timestamps of two files are in different units."""
    known = [file for file in files if file.time_unit is not None]
    for file in known[1:]:
        if file.time_unit != known[0].time_unit:
            raise InputError(
                f"{file.name}: timestamps in {file.time_unit}, but in {known[0].time_unit} in {known[0].name}; "
                "expected one unit in all files of a log, seconds since 1970 or ISO 8601"
            )


def _describe(kinds: Mapping[str, float]) -> str:
    shares = sorted(kinds.items(), key=lambda one: -one[1])
    return ", ".join(f"{share:.0%} {kind}" for kind, share in shares[:3])
