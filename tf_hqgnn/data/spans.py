"""Logs that come day by day: `logs/day-{SPAN}.csv`, TFX's notation, resolved when the log is read.

TFX's own resolution needs its file-based ExampleGen and a driver, which Kubeflow doesn't run.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tf_hqgnn.types import InputError

_SPAN = re.compile(r"\{SPAN(?::(\d+))?\}")
_NOTATION = re.compile(r"\{(?:SPAN|VERSION|YYYY|MM|DD)(?::[^}]*)?\}")


@dataclass(frozen=True)
class Span:
    """One file of a log.

    Args:
      path: the file.
      number: its span; None where the log is this file alone.
      is_first: whether there is no file before it, not even beyond the window: it may be a history of many days.
    """

    path: Path
    number: int | None
    is_first: bool = field(default=True, compare=False, repr=False)


def resolve_spans(path: str, num_spans: int | None = None) -> tuple[Span, ...]:
    """The files of `data.path`, oldest span first; a path without the notation is one file, there or not.

    So is the path of a file whose name has the notation in it: literally, it comes first.

    Args:
      path: `{SPAN}` stands for digits, `{SPAN:2}` for two of them (TFX's width).
      num_spans: how many spans to take, the latest ones; None takes all.

    Raises:
      InputError: No file matches, two have the same span, or the notation isn't the one that is known.

    Example:
      >>> resolve_spans("log.csv")
      (Span(path=PosixPath('log.csv'), number=None),)
    """
    notation = _NOTATION.findall(path)
    # Not Path.exists, which raises for a name that is too long.
    if not notation or os.path.exists(path):  # noqa: PTH110
        if num_spans is not None:
            raise InputError(
                f"data.num_spans={num_spans}, but data.path {path} has no {{SPAN}}; write {{SPAN}} where its number "
                "is, or leave out data.num_spans"
            )
        return (Span(Path(path), None),)
    if len(notation) > 1 or not (found := _SPAN.fullmatch(notation[0])):
        raise InputError(
            f"data.path {path}: {' and '.join(notation)}; expected {{SPAN}} once, or {{SPAN:2}} for two digits: number "
            "the files by one span"
        )
    before, _, after = path.partition(notation[0])
    digits = f"[0-9]{{{found[1]}}}" if found[1] else "[0-9]+"
    pattern = re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")
    files: dict[int, str] = {}
    # Path.glob would need the folder, of which the number may be a part.
    for name in sorted(glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")):  # noqa: PTH207
        if match := pattern.fullmatch(name):
            number = int(match[1])
            if number in files:
                raise InputError(f"span {number} is in both {files[number]} and {name}; expected one file for a span")
            files[number] = name
    if not files:
        raise InputError(f"data.path {path}: no span matches; expected a file with digits in place of {notation[0]}")
    numbers = sorted(files)[-num_spans if num_spans else None :]
    return tuple(Span(Path(files[number]), number, number == min(files)) for number in numbers)
