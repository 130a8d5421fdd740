"""Every file that the settings name, so that a pipeline can check and fingerprint them before it reads any."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.input_file import input_parts, open_raw, paths_of
from tf_hqgnn.data.spans import resolve_spans
from tf_hqgnn.files.stores import refuse_stores

_CHUNK_BYTES = 1 << 20
_LOGS = ("data.path", "data.train_path", "data.valid_path", "data.test_path")


def named_inputs(data: DataConfig) -> list[Path]:
    """The log's files, spans and parts of folders one by one, and those of the items and users.

    Raises:
      InputError: One isn't there, is empty, or can't be read by this process.
    """
    refuse_stores_of(data)
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


def refuse_stores_of(data: DataConfig) -> None:
    """Raises InputError if a setting names a place of an object store; Apache Beam alone reads logs from one."""
    paths = {f"data.{name}": getattr(data, name) for name in type(data).model_fields if name.endswith("path")}
    logs = {name: path for name, path in paths.items() if name in _LOGS}
    refuse_stores(logs, "; `tf-hqgnn train --runner` reads logs from stores")
    refuse_stores(paths)


def fingerprint(data: DataConfig) -> str:
    """A digest of the content of every named input; it raises as `named_inputs` does."""
    digest = hashlib.sha256()
    for path in named_inputs(data):
        with open_raw(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()
