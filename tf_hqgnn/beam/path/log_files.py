"""The files of a log, found by the settings before anything runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.places import reach
from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.compression import SUFFIXES
from tf_hqgnn.data.input_file import input_parts
from tf_hqgnn.data.spans import resolve_spans
from tf_hqgnn.data.splits import TEST, TRAIN, VALID
from tf_hqgnn.types import InputError

# Bytes of text that a byte of a compressed file, or of Parquet, stands for, about.
_PACKED = 6
_PACKED_SUFFIXES = (*SUFFIXES, ".parquet", ".pq")


@dataclass(frozen=True)
class LogFile:
    """A file of the log, which one worker reads.

    Args:
      number: its place among all.
      path: of the file, or its address in a bucket.
      part: TRAIN, VALID or TEST where the split is given; else TRAIN.
      day: the place of its span among all; the files of one folder or pattern are of one span.
      span: the span's number; None where the log has none.
      is_first: whether there is no span before it, as in `Span`.
      size: bytes.
    """

    number: int
    path: str
    part: int
    day: int
    span: int | None
    is_first: bool
    size: int

    @property
    def text_bytes(self) -> int:
        """Bytes that the file would have as plain text, about."""
        return self.size * (_PACKED if self.path.lower().endswith(_PACKED_SUFFIXES) else 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_log(config: DataConfig) -> list[LogFile]:
    """All files of the log that the settings name: files, folders, patterns such as `logs/*.csv`, or spans.

    Raises:
      InputError: A file isn't there, or no log is named.
    """
    if config.path is not None:
        given = [(TRAIN, "data.path", config.path, config.num_spans)]
    elif config.train_path is not None and config.test_path is not None:
        named = ((TRAIN, "train_path"), (VALID, "valid_path"), (TEST, "test_path"))
        given = [(part, f"data.{key}", path, None) for part, key in named if (path := getattr(config, key)) is not None]
    else:
        raise InputError("no input: set data.path, or data.train_path with data.test_path")
    files: list[LogFile] = []
    for part, setting, path, num_spans in given:
        for day, (span, is_first, paths) in enumerate(_spans(path, setting, num_spans)):
            for one in paths:
                size = FileSystems.get_filesystem(one).metadata(one).size_in_bytes
                files.append(LogFile(len(files), one, part, day, span, is_first, size))
    return files


def _spans(path: str, setting: str, num_spans: int | None) -> Iterator[tuple[int | None, bool, list[str]]]:
    is_local = FileSystems.get_scheme(reach(setting, path)) is None
    # A name with these characters comes before the pattern that it would be.
    if any(character in path for character in "*?[") and not (is_local and Path(path).exists()):
        found = sorted(metadata.path for metadata in FileSystems.match([path])[0].metadata_list)
        if not found:
            raise InputError(f"{setting} {path}: no file matches")
        yield None, True, found
    elif is_local:
        for span in resolve_spans(path, num_spans):
            parts = input_parts(span.path, "interactions", setting)
            yield span.number, span.is_first, [str(part.absolute()) for part in parts]
    elif "{SPAN" in path:
        raise InputError(f"{setting} {path}: {{SPAN}} is resolved in local folders only; name a pattern such as day-*")
    elif FileSystems.exists(path):
        yield None, True, [path]
    else:
        raise InputError(f"{setting} {path}: no such file; expected a file or a pattern such as {path}/*")


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """A path at which a file can be read; one in a bucket is copied to this machine while the block runs."""
    if FileSystems.get_scheme(path) is None:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="tf_hqgnn-") as folder:
        copy = Path(folder, path.rpartition("/")[2])
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source, copy.open("wb") as to:
            shutil.copyfileobj(source, to, 1 << 22)
        yield copy
