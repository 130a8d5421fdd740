"""The kinds of folders of this package, for messages about the wrong one: a run, an export, a model or a version."""

from __future__ import annotations

from pathlib import Path

from tf_hqgnn.export.layout import SAVED_MODEL_FILE

_RUN_FILES = ("metrics.json", "config.yaml")


def not_a_version(path: Path, option: str = "") -> str | None:
    """Return why a folder isn't a version of an exported model, and which folder to name; None if it is one.

    Args:
      path: the folder.
      option: how the caller names it, such as "--model ".

    Example:
      >>> not_a_version(Path("no/such/folder"), "--model ")
      "no/such/folder doesn't exist: expected a version of a model, such as --model EXPORT_DIR/hqgnn/1"
    """
    path = Path(path)
    if (path / SAVED_MODEL_FILE).exists():
        return None
    if newest := _newest_version(path):
        return f"{path} holds versions of a model: use {option}{newest}"
    if newest := _newest_of_models(path):
        return f"{path} holds models, not a version: use {option}{newest}"
    if _is_run(path):
        return f"{path} is a training run: export it first, {_EXPORT.format(path)}, and use {option}EXPORT_DIR/hqgnn/1"
    return f"{path} {_nothing(path)}: expected a version of a model, such as {option}EXPORT_DIR/hqgnn/1"


def not_an_export(path: Path, option: str = "") -> str | None:
    """Return why a folder isn't an export, and which folder to name; None if it holds a model.

    Args:
      path: the folder.
      option: how the caller names it, such as "--export ".
    """
    path = Path(path)
    if _newest_of_models(path):
        return None
    if (path / SAVED_MODEL_FILE).exists():
        return f"{path} is one version of a model: use {option}{path.absolute().parent.parent}, which holds the models"
    if _newest_version(path):
        return f"{path} is one model: use {option}{path.absolute().parent}, which holds the models"
    if _is_run(path):
        return f"{path} is a training run: export it first, {_EXPORT.format(path)}"
    return f"{path} {_nothing(path)}: expected the EXPORT_DIR that `tf-hqgnn export` or a pipeline wrote"


def not_a_run(path: Path) -> str:
    """Say why a folder isn't a finished training run, and what is.

    Args:
      path: the folder.
    """
    path = Path(path)
    expected = "expected a RUN_DIR that `tf-hqgnn train --out RUN_DIR` wrote"
    if (path / SAVED_MODEL_FILE).exists() or _newest_version(path) or _newest_of_models(path):
        return f"{path} holds an exported model, not a training run: {expected}"
    if (path / "study.db").exists():
        return f"{path} is a tuning study, not a training run: train with its settings, {path / 'best.yaml'}"
    return f"{path} is not the directory of a finished run (no metrics.json): {expected}"


_EXPORT = "tf-hqgnn export {} --out EXPORT_DIR"


def _is_run(path: Path) -> bool:
    return all((path / name).is_file() for name in _RUN_FILES)


def _nothing(path: Path) -> str:
    return "holds no model" if path.is_dir() else "is a file" if path.exists() else "doesn't exist"


def _newest_version(path: Path) -> Path | None:
    """The version of the highest number in the folder of a model."""
    found = [file.parent for file in path.glob(f"*/{SAVED_MODEL_FILE}") if file.parent.name.isdecimal()]
    return max(found, key=lambda folder: int(folder.name), default=None)


def _newest_of_models(path: Path) -> Path | None:
    """The newest version of the first model, by name, in an export."""
    models = sorted(path.iterdir()) if path.is_dir() else []
    return next((newest for model in models if (newest := _newest_version(model)) is not None), None)
