"""Compressed input as a stream of bytes: what ends too early or is damaged is refused, never read in part."""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from tf_hqgnn.types import InputError

# Bytes of compressed input read at a time.
_CHUNK_BYTES = 256 << 10

# How each kind of content begins. bzip2's three letters alone might begin a text.
_BEGINNINGS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    # The second form is a skippable frame, with which pzstd begins.
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}


class _Decompressor(Protocol):
    """What bz2, lzma and `_Gunzip` have in common: one stream of a file, which may hold several."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def compression_of(head: bytes) -> str | None:
    r"""The kind of compression that content beginning with `head` has, or None.

    >>> compression_of(b"\x1f\x8b\x08\x00"), compression_of(b"user_id,item_id")
    ('gzip', None)
    """
    return next((kind for kind, beginning in _BEGINNINGS.items() if beginning.match(head)), None)


def decompressed(file: BinaryIO, kind: str, name: str) -> io.RawIOBase:
    """The content of a compressed file; reading raises InputError, in which the file is `name`, where it is damaged.

    Args:
      file: positioned at its start.
      kind: as `compression_of` names it.
      name: what messages call the file.
    """
    return _Zstd(file, name) if kind == "zstd" else _Streams(file, kind, name)


class _Source(io.RawIOBase):
    """Fills whole buffers by `_next`, and turns what goes wrong into one line."""

    def __init__(self, file: BinaryIO, kind: str, name: str) -> None:
        self._file = file
        self._kind = kind
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        filled = 0
        while filled < len(view):
            try:
                data = self._next(len(view) - filled)
            except (OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise InputError(f"{self._name}: {error.strerror or error}; expected a readable file") from error
                if "Truncated" in str(error):
                    raise self._truncated() from error
                if "too much memory" in str(error):
                    raise InputError(
                        f"{self._name}: the zstd data needs a window that is larger than what is read (128 MiB); "
                        "compress it without --long and below --ultra -22"
                    ) from error
                reason = " ".join(str(error).split())[:100]
                raise InputError(
                    f"{self._name}: the {self._kind} data is damaged ({reason}); copy or download the file again"
                ) from error
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _next(self, size: int) -> bytes:
        """From 1 to `size` bytes; none at the end."""
        raise NotImplementedError

    def _truncated(self) -> InputError:
        return InputError(
            f"{self._name}: the {self._kind} data ends too early, the file is cut off; copy or download it again"
        )


class _Streams(_Source):
    """gzip, bzip2 and xz. Programs that compress in parallel write several streams one after the other."""

    def __init__(self, file: BinaryIO, kind: str, name: str) -> None:
        super().__init__(file, kind, name)
        makers: dict[str, Callable[[], Any]] = {
            "gzip": _Gunzip,
            "bzip2": bz2.BZ2Decompressor,
            "xz": lzma.LZMADecompressor,
        }
        self._make = makers[kind]
        self._stream: _Decompressor | None = None
        self._input = b""

    def _next(self, size: int) -> bytes:
        while True:
            if self._stream is None:
                # Zeros behind a stream are padding, as of a tape's last block.
                self._input = (self._input or self._file.read(_CHUNK_BYTES)).lstrip(b"\0")
                if not self._input:
                    more = self._file.read(_CHUNK_BYTES)
                    if not more:
                        return b""
                    self._input = more
                    continue
                self._stream = self._make()
            chunk = b""
            if self._stream.needs_input:
                chunk, self._input = self._input or self._file.read(_CHUNK_BYTES), b""
            data = self._stream.decompress(chunk, size)
            if self._stream.eof:
                self._input, self._stream = self._stream.unused_data, None
            elif not data and not chunk and self._stream.needs_input:
                raise self._truncated()
            if data:
                return data


class _Gunzip:
    """zlib's decompressor with the interface of bz2's and lzma's; it checks length and checksum at the end."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(data or self._zlib.unconsumed_tail, max_length)


class _Zstd(_Source):
    """Arrow has zstd, which Python's library lacks before 3.14."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, "zstd", name)
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")

    def _next(self, size: int) -> bytes:
        return bytes(self._stream.read(size))
