"""Files and folders that appear complete or not at all, also after a power cut.

A rename alone isn't enough: after a power cut a new name can stand for a file whose content was never written. So
content is synced before a rename, and the folder that holds the name after it.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_STAGED = re.compile(r"\.tmp-[0-9a-f]{32}-.*", re.DOTALL)


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file in place of the one that may be there.

    Args:
      path: in a folder that exists.
      content: text is written in UTF-8.
    """
    with staged_file(path) as staged:
        staged.write_bytes(content.encode() if isinstance(content, str) else content)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a CSV in place of the one that may be there, with every column that a row has, in the order of the rows.

    Args:
      path: in a folder that exists.
      rows: by the names of their columns.
    """
    with staged_file(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A name to write a file under; it takes the place of `path` when the block ends well, and goes if it fails.

    The name is in the same folder, is hidden, is nobody else's, and ends as `path` does.
    """
    staged = staged_name(path)
    try:
        yield staged
        sync(staged)
        staged.replace(path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the name `path`, which must be free, when the block ends well.

    Raises:
      OSError: `path` is there, and isn't an empty folder.
    """
    staged = staged_name(path)
    make_folder(path.parent)
    try:
        staged.mkdir()
        yield staged
        publish(staged, path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Makes a folder and those above it, if they aren't there; their names are on the disk when this returns."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    for folder in made:
        sync(folder.parent)


def staged_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has."""
    return path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")


def remove_staged(folder: Path) -> None:
    """Removes what killed processes left in a folder under such names; nobody else may be writing there."""
    for entry in list(folder.iterdir()):
        if not _STAGED.fullmatch(entry.name):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def publish(staged: Path, path: Path) -> None:
    """Gives a folder its name, once all that is in it is on the disk."""
    sync_tree(staged)
    staged.rename(path)
    sync(path.parent)


def list_files(folder: Path) -> dict[str, int]:
    """Name within the folder -> size in bytes, of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def check_files(folder: Path, expected: Mapping[str, int]) -> None:
    """Raises OSError unless a folder holds at least these files, in these sizes, as `list_files` gave them."""
    for name, came in differences(folder, expected):
        raise OSError(f"{folder}: {name} {came}, expected {expected[name]:,} bytes; was it changed by another process?")


def differences(folder: Path, expected: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yields each file that isn't in a folder, or not in its size, and in words what came instead.

    Args:
      folder: may hold more.
      expected: names and sizes, as `list_files` gives them.
    """
    for name, size in expected.items():
        path = folder / name
        if not path.is_file():
            yield name, "isn't there"
        elif path.stat().st_size != size:
            yield name, f"has {path.stat().st_size:,} bytes"


def sync_tree(folder: Path) -> None:
    """Waits until every file in a folder, and their names, are on the disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(root, name))
        sync(Path(root))


def sync(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk."""
    is_folder = path.is_dir()
    if os.name == "nt":
        if is_folder:
            # Windows opens no folders, and needs no such thing for names.
            return
        flags = os.O_RDWR
    else:
        flags = os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems can't sync a folder; a file must be synced.
        if not is_folder:
            raise
    finally:
        os.close(descriptor)
