"""Model config files of TF Serving: what a change of labels makes of them, and how they are kept on disk.

Pure but for `load` and `save`. A version is loaded if and only if a label needs it, or a rollback may: `KEPT` at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

# Memory is planned for two versions (serving/README.md).
KEPT = 2


class LabelError(Exception):
    """A label can't be moved; the message says why, and how to mend it."""


def load(path: Path) -> ModelServerConfig:
    """Parses a ModelServerConfig in text format.

    Raises:
      LabelError: No such file, or not of that format, or without a `model_config_list`.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelServerConfig())
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}; name the servers' model config file with --config") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: not a ModelServerConfig in text format ({error})") from error
    if not config.model_config_list.config:
        raise LabelError(f"{path}: has no model, expected model_config_list {{ config {{ name: ... }} }}")
    return config


def save(path: Path, config: ModelServerConfig) -> None:
    """Replaces the file atomically; the comment lines at its head stay."""
    head = ""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.startswith("#"):
                break
            head += line
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(head + text_format.MessageToString(config))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def previous_path(path: Path) -> Path:
    """Where the config lies to which `--rollback` goes back."""
    return path.with_name(path.name + ".previous")


def entry(config: ModelServerConfig, model: str) -> ModelConfig:
    """The model's part of the config, to be read or changed.

    Raises:
      LabelError: The config has no such model.
    """
    for candidate in config.model_config_list.config:
        if candidate.name == model:
            return candidate
    names = ", ".join(candidate.name for candidate in config.model_config_list.config)
    raise LabelError(f"the config has no model {model!r}, only {names}; --config names the file of another server")


def with_entry(config: ModelServerConfig, changed: ModelConfig) -> ModelServerConfig:
    """A copy in which `changed` replaces the model of that name. The others stay: a reload replaces the whole list."""
    result = ModelServerConfig()
    result.CopyFrom(config)
    entry(result, changed.name).CopyFrom(changed)
    return result


def with_labels(
    config: ModelServerConfig, model: str, labels: Mapping[str, int], versions: Iterable[int]
) -> ModelServerConfig:
    """A copy in which the model has these labels and loads these versions."""
    changed = ModelConfig()
    changed.CopyFrom(entry(config, model))
    changed.ClearField("version_labels")
    changed.version_labels.update(labels)
    changed.model_version_policy.Clear()
    changed.model_version_policy.specific.versions.extend(sorted(set(versions)))
    return with_entry(config, changed)


def steps(config: ModelServerConfig, model: str, labels: Mapping[str, int]) -> tuple[ModelServerConfig, ...]:
    """The reloads that move the model to `labels`: load, relabel, unload.

    * TF Serving checks labels before it loads what the same request asks for: loading goes first, under the old labels.
    * Nothing is unloaded while a server may still have to be put back to the old labels.
    * Versions that lost their label stay for a quick rollback, newest first, up to `KEPT` in all.
    """
    old = dict(entry(config, model).version_labels)
    needed = {*old.values(), *labels.values()}
    kept = set(labels.values())
    kept.update(sorted(needed - kept, reverse=True)[: max(0, KEPT - len(kept))])
    return (
        with_labels(config, model, old, needed),
        with_labels(config, model, labels, needed),
        with_labels(config, model, labels, kept),
    )
