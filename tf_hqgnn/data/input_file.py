"""How every input file is opened, whoever reads it: a regular file or a folder of parts, plain or compressed."""

from __future__ import annotations

import io
import re
import stat
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tf_hqgnn.data.chunks import ID_COLUMNS, NUMBER_COLUMNS
from tf_hqgnn.data.compression import SUFFIXES, compression_of, decompressed
from tf_hqgnn.types import InputError

_HEAD_BYTES = 512
_SMALL_BYTES = 4096
_BUFFER_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"
_PARTITION = re.compile(r"([^=]+)=.*")
_KINDS = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}

_COMPRESS = "compress it with gzip, bzip2, xz or zstd instead"
_AGAIN = "download the file itself (a page may be what a server says instead of it), or write it as CSV"

# What isn't text, by how it begins, and what to do about it.
_OTHERS = (
    (
        re.compile(rb"PAR1[^ -~\t\r\n]"),
        "a Parquet file",
        "give it the extension .parquet, uncompressed, or set data.format=parquet",
    ),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or an Excel workbook", "unpack it, or save the table as CSV"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive", "unpack it"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", "unpack it"),
    (re.compile(rb"\x04\x22\x4d\x18"), "compressed with LZ4", _COMPRESS),
    (re.compile(rb"\x1f\x9d"), "compressed with compress (.Z)", _COMPRESS),
    (re.compile(rb"\xff\x06\0\0sNaPpY"), "compressed with Snappy", _COMPRESS),
    (re.compile(rb"ARROW1\0"), "an Arrow (Feather) file", "write it as CSV or Parquet"),
    (re.compile(rb"ORC[^ -~\t\r\n]"), "an ORC file", "write it as CSV or Parquet"),
    (re.compile(rb"Obj\x01"), "an Avro file", "write it as CSV or Parquet"),
    (re.compile(rb"SQLite format 3"), "a SQLite database", "export the table as CSV"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]"), "UTF-16", "expected UTF-8, save it as UTF-8"),
    (re.compile(rb"\{\s*[\"}]|\[\s*([\"{\[]|-?[0-9.]+\s*[,\]])"), "JSON", "write it as CSV or Parquet"),
    (re.compile(rb"\s*<(!DOCTYPE|!--|\?xml|[A-Za-z][A-Za-z0-9:]*[\s>/])", re.IGNORECASE), "HTML or XML", _AGAIN),
    (re.compile(rb"version https://git-lfs\."), "a pointer of Git LFS", "fetch the file itself with git lfs pull"),
    (re.compile(rb"%PDF-"), "a PDF document", "export the table as CSV"),
    (re.compile(rb"\{\\rtf"), "an RTF document", "save the table as CSV"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Excel workbook (.xls) or another Office file", "save the table as CSV"),
    (re.compile(rb"%%MatrixMarket"), "a sparse matrix (Matrix Market)", "write its entries as CSV with a header"),
    (re.compile(rb"\x93NUMPY"), "an array of NumPy (.npy)", "write it as CSV or Parquet"),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle of Python", "write it as CSV or Parquet"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "an image", "name the file with the table"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file", "write it as CSV or Parquet"),
    (re.compile(rb"\x5d\0\0[\0-\xff]{2}"), "compressed with LZMA (.lzma)", _COMPRESS),
)


def input_parts(path: Path, holds: str = "interactions", setting: str = "data.path") -> list[Path]:
    """The files to read for a path: itself, or the parts of a folder as Spark writes it, sorted by name.

    In a folder, names that begin with `_` or `.` (`_SUCCESS`, checksums) and empty files are passed over. Folders
    within it must be named `column=value`.

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
    with ExitStack() as until_it_is_whole:
        stream = readable(until_it_is_whole.enter_context(open_raw(path)), str(path))
        until_it_is_whole.pop_all()
    return stream


def open_raw(path: Path) -> io.BufferedReader:
    """Opens one regular file for reading its bytes as they are, compressed or not; raises as `open_input` does."""
    check_regular(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def readable(file: BinaryIO, name: str) -> io.BufferedReader:
    """The content of an open file, decompressed if it is compressed; closing the one closes the other.

    Args:
      file: at its start, and seekable.
      name: what messages call it; its extension must not promise a compression that isn't there.

    Raises:
      InputError: The name ends in .gz or the like, and the content isn't compressed.
    """
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
    return io.BufferedReader(raw, _BUFFER_BYTES)


def open_text(path: Path) -> io.BufferedReader:
    """As `open_input`, for text: behind its byte order mark, if it has one.

    Raises:
      InputError: It can't be opened, or isn't text in UTF-8 but of another kind that can be told.
    """
    with ExitStack() as until_it_is_whole:
        stream = text_of(until_it_is_whole.enter_context(open_input(path)), str(path))
        until_it_is_whole.pop_all()
    return stream


def text_of(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """A stream of UTF-8 text, behind its byte order mark; see `open_text`."""
    head = stream.peek(_HEAD_BYTES)
    kind = compression_of(head)
    if kind is not None:
        raise InputError(f"{name}: the content is compressed twice, the second time with {kind}; decompress it once")
    for beginning, what, cure in _OTHERS:
        if beginning.match(head):
            raise InputError(f"{name}: the content is {what}; {cure}")
    if head.startswith(_BOM):
        stream.read(len(_BOM))
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
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))
    except OSError as error:
        raise _unreadable(folder, error) from error
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
        if partition[1] in (*ID_COLUMNS, *NUMBER_COLUMNS):
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
