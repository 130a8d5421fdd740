"""Every file that the settings name, so that a pipeline can check and fingerprint them before it reads any."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.input_file import input_parts, open_raw, paths_of
from tf_hqgnn.data.spans import resolve_spans

_CHUNK_BYTES = 1 << 20


def named_inputs(data: DataConfig) -> list[Path]:
    """The log's files, spans and parts of folders one by one, and those of the items and users.

    Raises:
      InputError: One isn't there, is empty, or can't be read by this process.
    """
    spans = resolve_spans(data.path, data.num_spans) if data.path else ()
    files = [part for span in spans for part in input_parts(span.path)]
    for name in ("train_path", "valid_path", "test_path"):
        if path := getattr(data, name):
            files += input_parts(Path(path), setting=f"data.{name}")
    for holds in ("items", "users"):
        if about := getattr(data, f"{holds}_path"):
            files += [part for path in paths_of(about) for part in input_parts(path, holds, f"data.{holds}_path")]
    for file in files:
        open_raw(file).close()
    return files


def fingerprint(data: DataConfig) -> str:
    """A digest of the content of every named input; it raises as `named_inputs` does."""
    digest = hashlib.sha256()
    for path in named_inputs(data):
        with open_raw(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()
