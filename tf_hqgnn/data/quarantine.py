"""The quarantine file: bad rows, in a CSV that a spreadsheet may open."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.types import InputError

_HEADER = ["file", "line", "kind", "row"]
# A spreadsheet runs a cell that begins like this as a formula, unless it is a number.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Quarantine:
    """Writes the columns `file,line,kind,row`; the file appears when it is complete, even if it stays empty.

    `row` holds the row's bytes, and a file its name, but for a `'` before what a spreadsheet would run as a formula:
    what begins with =, +, -, @, a tab or a CR and is no number.

    Args:
      path: the file. What is there is replaced if it is a quarantine file or empty, and refused otherwise: it may be
        a log.
      inputs: what is read; the quarantine is none of these files, nor in one of these folders.

    Raises:
      InputError: It can't be written there.
    """

    def __init__(self, path: Path, inputs: Iterable[Path] = ()) -> None:
        _check(path, inputs)
        # The file that a link leads to is replaced, not the link.
        target = path.resolve()
        with ExitStack() as stack:
            try:
                staged = stack.enter_context(staged_file(target))
                # surrogateescape lets undecodable bytes through unchanged.
                self._file = staged.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            except OSError as error:
                raise _refusal(path, str(error.strerror).lower(), "a file in a folder that exists") from error
            self._staged = stack.pop_all()
        self._path = path
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(_HEADER)

    def add(self, source: str, line: int, kind: str, row: bytes) -> None:
        """Writes a row."""
        text = row.decode("utf-8", "surrogateescape")
        with self._named():
            self._writer.writerow([without_formula(source), line, kind, without_formula(text)])

    def close(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Publishes the file, or after an error removes it; the arguments are those of `__exit__`."""
        if error is not None:
            # What is thrown away need not fit on the disk.
            with suppress(OSError):
                self._file.close()
            self._staged.__exit__(kind, error, trace)
            return
        with self._staged, self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Names the file in an error of writing, such as that of a full disk."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self._path)
            raise


def without_formula(text: str) -> str:
    """Text that a spreadsheet shows and doesn't run.

    >>> without_formula("=1+1"), without_formula("-1.5"), without_formula("u,i")
    ("'=1+1", '-1.5', 'u,i')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _check(path: Path, inputs: Iterable[Path]) -> None:
    try:
        for file in inputs:
            if file.is_dir() and path.resolve().is_relative_to(file.resolve()):
                raise _refusal(path, f"it is in {file}, which is an input", "a file elsewhere")
            if path.exists() and file.exists() and path.samefile(file):
                raise _refusal(path, f"it is an input, {file}", "a file of its own, or the input would be lost")
        if path.is_dir():
            raise _refusal(path, "it is a directory", "the name of a file")
        if path.exists():
            if not path.is_file():
                raise _refusal(path, "it isn't a regular file", "the name of a file")
            with path.open("rb") as stream:
                start = stream.readline(100)
            if start and start.strip() != ",".join(_HEADER).encode():
                begins = start[:40].decode("utf-8", "backslashreplace")
                raise _refusal(
                    path,
                    f"the file is there and is no quarantine file (it begins with {begins!r})",
                    "a name that is free, so that nothing is lost",
                )
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise _refusal(path, reason, "a file in a folder that exists") from error


def _refusal(path: Path, came: str, expected: str) -> InputError:
    return InputError(f"data.quarantine_path {path}: {came}; expected {expected}")
