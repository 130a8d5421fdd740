"""What became of every row that was read: kept, duplicate, filtered or bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tf_hqgnn.data.anomalies import FileProfile
from tf_hqgnn.data.chunks import NUMBER_COLUMNS, expectation, not_finite
from tf_hqgnn.data.quarantine import Quarantine
from tf_hqgnn.types import InputError

_SHOWN_LINES = 5
_EXAMPLE_BYTES = 100
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class BadRows:
    """Bad rows of one kind.

    Args:
      count: how many.
      first_lines: the first five line numbers (1-based; the row number in Parquet and TFRecord).
    """

    count: int
    first_lines: tuple[int, ...]

    def __str__(self) -> str:
        lines = ", ".join(str(line) for line in self.first_lines)
        more = ", ..." if self.count > len(self.first_lines) else ""
        return f"{self.count} (line{'s' if self.count > 1 else ''} {lines}{more})"


@dataclass(frozen=True)
class ReadReport:
    """The balance of a read: `rows_read = kept + duplicate + filtered + num_bad`, always.

    Args:
      rows_read: rows of the file, the header and blank lines left out.
      kept: distinct (user, item) pairs that remain.
      duplicate: further rows of a pair that is kept or filtered.
      filtered: rows removed by `min_rating`, `negative_rating`, a weight of 0 or the k-core.
      bad: what couldn't be used, by kind.
      files: what each file looks like, oldest first, for the comparison with those of another day.
      ratings: the lowest and the highest rating, where all of them count as positive; else None.
      odd_ids: what is odd about the ids, a sentence each.
      rules: how rows became weighted pairs and dislikes by the settings, a sentence each.
      unused: columns of the files that aren't read.
      last_time: the latest timestamp of the log, in its own unit; None where the log has no time.

    Raises:
      ValueError: The parts don't add up to the rows read.

    Example:
    >>> print(ReadReport(10, 7, 1, 0, {"missing item_id": BadRows(2, (4, 9))}))
    10 rows read = 7 kept + 1 repeat of a (user, item) pair + 0 filtered + 2 bad: missing item_id 2 (lines 4, 9)
    """

    rows_read: int
    kept: int
    duplicate: int
    filtered: int
    bad: Mapping[str, BadRows] = field(default_factory=dict)
    files: tuple[FileProfile, ...] = ()
    ratings: tuple[float, float] | None = None
    odd_ids: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    last_time: float | None = None

    def __post_init__(self) -> None:
        if self.rows_read != self.kept + self.duplicate + self.filtered + self.num_bad:
            raise ValueError(f"the rows don't add up: {self}; every row read must be in exactly one part")

    @property
    def num_bad(self) -> int:
        """Bad rows of all kinds."""
        return sum(rows.count for rows in self.bad.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user may not expect of how the log was understood, a sentence each."""
        notes = list(self.odd_ids)
        if self.ratings is not None:
            low, high = self.ratings
            notes.append(
                f"ratings go from {low:g} to {high:g}, and every row counts as positive; set data.min_rating to count "
                "only higher ones"
            )
        return (*notes, *self.rules)

    @property
    def summary(self) -> tuple[str, ...]:
        """What to tell of the log, a line each: the balance of its rows, notes, and columns that aren't used."""
        unused = [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return (str(self), *self.notes, *unused)

    def __str__(self) -> str:
        text = (
            f"{self.rows_read:,} rows read = {self.kept:,} kept + {self.duplicate:,} "
            f"repeat{'' if self.duplicate == 1 else 's'} of a (user, item) pair + {self.filtered:,} filtered + "
            f"{self.num_bad:,} bad"
        )
        return f"{text}: {describe_bad(self.bad)}" if self.bad else text

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` reads them back."""
        bad = {kind: {"count": rows.count, "first_lines": list(rows.first_lines)} for kind, rows in self.bad.items()}
        return {
            "rows_read": self.rows_read,
            "kept": self.kept,
            "duplicate": self.duplicate,
            "filtered": self.filtered,
            "bad": bad,
            "files": [file.to_json() for file in self.files],
            "ratings": None if self.ratings is None else list(self.ratings),
            "odd_ids": list(self.odd_ids),
            "rules": list(self.rules),
            "unused": list(self.unused),
            "last_time": self.last_time,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ReadReport:
        """The report that `to_json` wrote, in this version or an earlier one."""
        bad = {kind: BadRows(rows["count"], tuple(rows["first_lines"])) for kind, rows in values["bad"].items()}
        files = tuple(FileProfile.from_json(file) for file in values.get("files", ()))
        ratings = values.get("ratings")
        return ReadReport(
            values["rows_read"],
            values["kept"],
            values["duplicate"],
            values["filtered"],
            bad,
            files,
            None if ratings is None else (ratings[0], ratings[1]),
            tuple(values.get("odd_ids", ())),
            tuple(values.get("rules", ())),
            tuple(values.get("unused", ())),
            values.get("last_time"),
        )


def describe_bad(bad: Mapping[str, BadRows]) -> str:
    """The kinds with their counts and first lines, in one line."""
    return ", ".join(f"{kind} {rows}" for kind, rows in bad.items())


class BadRowLog:
    """Collects bad rows while files are read, and writes them to the quarantine file if there is one.

    It is written even when it stays empty, so that one from an earlier run can't be taken for this run's.

    Args:
      max_bad_rows: how many bad rows `check` lets pass, all files together.
      quarantine_path: where the bad rows go, see `Quarantine`; then `check` lets any number pass.
      inputs: every file and folder that is read, which the quarantine must spare.
      in_python: whether `check` names the settings as `Recommender` takes them, and not as the command line does.
    """

    def __init__(
        self,
        max_bad_rows: int = 0,
        quarantine_path: str | Path | None = None,
        inputs: Iterable[Path] = (),
        in_python: bool = False,
    ) -> None:
        self._in_python = in_python
        self._max_bad_rows = max_bad_rows
        self._path = None if quarantine_path is None else Path(quarantine_path)
        self._inputs = tuple(inputs)
        self._counts: dict[tuple[str, str], int] = {}
        self._lines: dict[tuple[str, str], list[int]] = {}
        self._examples: dict[tuple[str, str], str] = {}
        self._quarantine: Quarantine | None = None
        self._unused: dict[str, None] = {}

    def __enter__(self) -> BadRowLog:
        if self._path is not None:
            self._quarantine = Quarantine(self._path, self._inputs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._quarantine is not None:
            self._quarantine.close(kind, error, trace)

    def add(self, source: str, kind: str, line: int, row: bytes, value: bytes | None = None) -> None:
        """Note one bad row.

        Args:
          source: the file.
          kind: what is wrong with the row.
          line: its number.
          row: what the file holds, without its line end.
          value: what its column at fault holds, which is the better example in a message; None shows the row.
        """
        key = (source, kind)
        self._counts[key] = self._counts.get(key, 0) + 1
        lines = self._lines.setdefault(key, [])
        if len(lines) < _SHOWN_LINES:
            lines.append(line)
        if key not in self._examples:
            shown = row if value is None else value
            self._examples[key] = repr(shown[:_EXAMPLE_BYTES].decode("utf-8", "backslashreplace"))
        if self._quarantine is not None:
            self._quarantine.add(source, line, kind, row)

    def noted(self, source: str) -> list[tuple[str, BadRows, str]]:
        """Return the kinds of bad rows of a file, with an example of each, for `add_noted` in another process."""
        return [(kind, rows, self._examples[source, kind]) for kind, rows in self.bad(source).items()]

    def add_noted(self, source: str, kind: str, rows: BadRows, example: str) -> None:
        """Note the bad rows of one kind that another process has found in a file that this one doesn't read."""
        key = (source, kind)
        self._counts[key], self._lines[key], self._examples[key] = rows.count, list(rows.first_lines), example

    def note_unused(self, columns: Iterable[str]) -> None:
        """Notes columns of a file that aren't read."""
        self._unused |= dict.fromkeys(columns)

    @property
    def unused(self) -> tuple[str, ...]:
        """The columns that weren't read of any file, in their order."""
        return tuple(self._unused)

    def bad(self, source: str | None = None) -> dict[str, BadRows]:
        """The bad rows by kind: of one file, or of all with the file's name in front where there are several."""
        several = len({key[0] for key in self._counts}) > 1
        return {
            f"{name}: {kind}" if several and source is None else kind: BadRows(count, tuple(self._lines[name, kind]))
            for (name, kind), count in self._counts.items()
            if source in (None, name)
        }

    def explain_all(self, source: str, rows: int) -> str:
        """Say why none of the rows of one file can be used. To leave out all rows is no way on, so it isn't advised.

        Args:
          source: the file.
          rows: how many it has.
        """
        bad, every = self.bad(source), f"all {rows:,} rows" if rows > 1 else "its only row"
        if len(bad) > 1:
            return f"none of {every} can be used: {self.explain(source)}"
        (kind,) = bad
        example = self._examples[source, kind]
        column = next((name for name in NUMBER_COLUMNS if kind == not_finite(name)), None)
        what = f"{kind} in {every}, such as"
        if column is not None:
            what = f"{column} in {every} is {'not a finite number,' if _is_number(example) else 'text'} such as"
        return f"{what} {example}; expected {expectation(kind)}"

    def explain(self, source: str) -> str:
        """What is wrong with the rows of one file, with the first row of each kind, and what was expected instead."""
        parts = [
            f"{kind} {rows}, such as {self._examples[source, kind]}; expected {expectation(kind)}"
            for kind, rows in self.bad(source).items()
        ]
        return "; ".join(parts)

    def check(self, num_good: int) -> None:
        """Refuses more bad rows than allowed.

        Args:
          num_good: rows that can be used. Where they are few, to leave out the others is no way on.

        Raises:
          InputError: One line with the kinds, the lines and the ways on.
        """
        number = sum(self._counts.values())
        if self._path is None and number > self._max_bad_rows:
            names = ", ".join(dict.fromkeys(name for name, _ in self._counts))
            ways = f"--set data.max_bad_rows={number}", "--set data.quarantine_path=FILE"
            if self._in_python:
                ways = f'Recommender(**{{"data.max_bad_rows": {number}}})', '"data.quarantine_path"'
            advice = f"mend them, or leave them out with {ways[0]}, or collect them in a file with {ways[1]}"
            if number >= _NEARLY_ALL * (number + num_good):
                reasons = "; ".join(self.explain(name) for name in dict.fromkeys(name for name, _ in self._counts))
                advice = f"nearly all rows of the log, so mend the log itself. {reasons}"
            raise InputError(
                f"{names}: {number:,} bad row{'s' if number > 1 else ''}, {self._max_bad_rows:,} allowed: "
                f"{describe_bad(self.bad())}; {advice}"
            )


def _is_number(example: str) -> bool:
    """Whether the example of a bad value is a number that isn't finite, or nothing, and so no text."""
    try:
        float(example.strip("'") or "nan")
    except ValueError:
        return False
    return True
