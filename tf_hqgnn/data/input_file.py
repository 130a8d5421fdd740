"""How every input file is opened, whoever reads it: a regular file or a folder of parts, plain or compressed."""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import unquote

from tf_hqgnn.data.chunks import ID_COLUMNS, ITEM_COLUMNS, NUMBER_COLUMNS
from tf_hqgnn.data.compression import SUFFIXES, compression_of, decompressed
from tf_hqgnn.data.foreign import check_is_text
from tf_hqgnn.files.stores import refuse_stores
from tf_hqgnn.types import InputError

_HEAD_BYTES = 512
_SMALL_BYTES = 4096
_BUFFER_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"
# Which columns are read, by what a file holds. In the name of a folder they aren't.
_COLUMNS = {
    "interactions": (*ID_COLUMNS, *NUMBER_COLUMNS),
    "items": ITEM_COLUMNS,
    "users": ("user_id",),
    "ids": ID_COLUMNS,
}
_TABLE_LOGS = {
    "_delta_log": "Delta table",
    "_spark_metadata": "streaming output of Spark",
    ".hoodie": "Hudi table",
}
# What editors, browsers and programs that copy leave beside a file.
_LEFT_OVER = re.compile(
    r"(?i)#.*#|.*(~|\.(bak|backup|old|orig|save|swp|swo|tmp|temp|partial|part|crdownload|download|filepart|inprogress|"
    r"incomplete|writing|lock|rej)|\._COPYING_|\.tmp-[0-9a-z-]+)|(copy of|kopie von) .*"
)
_PARTITION = re.compile(r"([^=]+)=.*")
_KINDS = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}


def paths_of(value: str | Path | Sequence[str | Path]) -> list[Path]:
    """Returns the paths that a setting names: one, several separated by commas, or a list.

    Example:
      >>> [path.name for path in paths_of("items.csv,item_features.csv")]
      ['items.csv', 'item_features.csv']
    """
    if not isinstance(value, str | Path):
        return [Path(one) for one in value]
    text = str(value)
    # A file may have a comma in its name.
    return [Path(text)] if "," not in text or Path(text).exists() else [Path(one) for one in text.split(",") if one]


def input_parts(path: Path, holds: str = "interactions", setting: str = "data.path") -> list[Path]:
    """The files to read for a path: itself, or the parts of a folder as Spark writes it, sorted by name.

    In a folder, names that begin with `_` or `.` (`_SUCCESS`, checksums) and empty files are passed over. Folders
    within it must be named `column=value`, of a column that isn't read. Backups and files that are still being written
    are refused.

    Args:
      path: a file or a folder.
      holds: what it is a file of, for messages.
      setting: names the path, for messages.

    Raises:
      InputError: It isn't there, is a pipe or a device, or is empty.
    """
    mode, size = _stat(path, holds, setting)
    if not stat.S_ISDIR(mode):
        _check_regular(path, mode)
        if size == 0:
            id_columns = "item_id" if holds == "items" else "user_id,item_id"
            raise InputError(f"{path}: the file is empty; expected a header with {id_columns} and rows of {holds}")
        return [path]
    files = _visible_files(path, holds, setting)
    parts = [file for file in files if not _is_empty(file)]
    if not parts:
        found = "it holds none" if not files else f"its {len(files)} file{'s are' if len(files) > 1 else ' is'} empty"
        raise InputError(
            f"{path}: is a directory; expected a file of {holds}, or a folder with part files, and {found}; check "
            f"{setting}"
        )
    return parts


def is_empty_file(path: Path, holds: str, setting: str) -> bool:
    """Whether a path is a file of no bytes; raises InputError if it isn't there."""
    mode, size = _stat(path, holds, setting)
    return stat.S_ISREG(mode) and size == 0


def check_regular(path: Path) -> None:
    """Raises InputError unless a path is a regular file, or leads to one."""
    mode, _ = _stat(path, "data", "the path")
    _check_regular(path, mode)


def open_input(path: Path) -> io.BufferedReader:
    """Opens one regular file for reading its content, decompressed.

    Raises:
      InputError: It can't be opened. Reading from it raises InputError where it is damaged or cut off.
    """
    return readable(open_raw(path), str(path))


def open_raw(path: Path) -> io.BufferedReader:
    """Opens one regular file for reading its bytes as they are, compressed or not; raises as `open_input` does."""
    check_regular(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def readable(file: BinaryIO, name: str) -> io.BufferedReader:
    """The content of an open file, decompressed if it is compressed.

    Closing the one closes the other, and so does an error.

    Args:
      file: at its start, and seekable.
      name: what messages call it; its extension must not promise a compression that isn't there.

    Raises:
      InputError: The name ends in .gz or the like, and the content isn't compressed.
    """
    with ExitStack() as refused:
        refused.callback(file.close)
        try:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
        except OSError as error:
            raise _unreadable(name, error) from error
        kind = compression_of(head)
        promised = SUFFIXES.get(PurePosixPath(name).suffix.lower())
        if promised is not None and kind is None:
            raise InputError(
                f"{name}: the content isn't compressed with {promised}, as the name says; rename it if it is plain, or "
                "copy it again if it is damaged"
            )
        raw = _Plain(file, name) if kind is None else decompressed(file, kind, name)
        refused.pop_all()
        return io.BufferedReader(raw, _BUFFER_BYTES)


def open_text(path: Path) -> io.BufferedReader:
    """As `open_input`, for text: behind its byte order mark, if it has one.

    Raises:
      InputError: It can't be opened, or isn't text in UTF-8 but of another kind that can be told.
    """
    return text_of(open_input(path), str(path))


def text_of(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """A stream of UTF-8 text, behind its byte order mark; see `open_text`. An error closes it."""
    with ExitStack() as refused:
        refused.callback(stream.close)
        head = stream.peek(_HEAD_BYTES)
        kind = compression_of(head)
        if kind is not None:
            raise InputError(
                f"{name}: the content is compressed twice, the second time with {kind}; decompress it once"
            )
        check_is_text(head, name)
        if head.startswith(_BOM):
            stream.read(len(_BOM))
        refused.pop_all()
        return stream


class _Plain(io.RawIOBase):
    """A file as it is; an error of reading is one line."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        try:
            if isinstance(self._file, io.BufferedIOBase | io.RawIOBase):
                return cast(int, self._file.readinto(buffer))  # type: ignore[arg-type]
            view = memoryview(buffer)  # type: ignore[arg-type]
            data = self._file.read(len(view))
        except OSError as error:
            raise _unreadable(self._name, error) from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _stat(path: Path, holds: str, setting: str) -> tuple[int, int]:
    """Mode and size, whatever a link leads to."""
    try:
        info = path.stat()
    except FileNotFoundError as error:
        refuse_stores({setting: path})
        raise InputError(f"{path}: no such file; expected a file of {holds}, check {setting}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return info.st_mode, info.st_size


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "of another kind")
        raise InputError(
            f"{path}: not a regular file ({what}), and input is read more than once; write it to a file and name that "
            f"({', '.join(SUFFIXES)} are read as they are)"
        )


def _visible_files(folder: Path, holds: str, setting: str) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
        is_written = any(entry.name == "_temporary" and any(entry.iterdir()) for entry in found)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if is_written or ((folder / "_temporary").is_dir() and not (folder / "_SUCCESS").exists()):
        raise InputError(
            f"{folder}: Spark is still writing there, or was stopped while it did (the folder _temporary); wait for "
            "_SUCCESS, or write it anew"
        )
    for entry in found:
        if entry.name in _TABLE_LOGS:
            raise InputError(
                f"{folder}: the folder {entry.name} makes it a {_TABLE_LOGS[entry.name]}, whose own log says which "
                "files count; write the table as plain Parquet or CSV into another folder"
            )
        if not entry.name.startswith(("_", ".")) and _LEFT_OVER.fullmatch(entry.name):
            raise InputError(
                f"{entry}: looks like a backup or a file that is still being written; expected nothing but part files "
                "in a folder, take it away, or let its name begin with _ to have it passed over"
            )
    entries = [entry for entry in found if not entry.name.startswith(("_", "."))]
    files = []
    for entry in entries:
        mode, _ = _stat(entry, holds, setting)
        if not stat.S_ISDIR(mode):
            _check_regular(entry, mode)
            files.append(entry)
            continue
        partition = _PARTITION.fullmatch(entry.name)
        if partition is None:
            raise InputError(
                f"{folder}: is a directory that holds the folder {entry.name}; expected part files of {holds}, or "
                f"folders named column=value: name the folder with the files in {setting}"
            )
        if unquote(partition[1]).strip().lower() in _COLUMNS[holds]:
            raise InputError(
                f"{entry}: the column {partition[1]} is in the folder's name, where it isn't read; write it into the "
                "files"
            )
        files += _visible_files(entry, holds, setting)
    return files


def _is_empty(path: Path) -> bool:
    """Whether nothing is in a file; Spark writes an empty part, maybe compressed, for an empty partition."""
    size = path.stat().st_size
    if size == 0 or size > _SMALL_BYTES:
        return size == 0
    with open_input(path) as stream:
        return not stream.read(1)


def _unreadable(name: object, error: Exception) -> InputError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return InputError(f"{name}: {reason}; expected a file that this process may read")
