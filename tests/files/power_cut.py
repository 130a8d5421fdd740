"""A model of a disk that loses what was not synced, fed by the calls that the code under test makes.

While it is entered it records every fsync, rename, replace, mkdir, unlink and rmtree below its root. A content counts
as written when its file was synced, whoever wrote it; a name when its folder was synced. A cut after any of these calls
leaves the names that were synced (`names_are_kept` False) or all names (True, as journals of names often do, while the
content comes later), and for each the content that was synced last: none if it never was.
"""

import os
from pathlib import Path


class Disk:
    """A folder, `root`, whose synced state can be had as of any moment.

    Args:
      root: is made.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.root = root.resolve()
        # inode -> content as it was synced last
        self._contents: dict[int, bytes] = {}
        # folder's inode -> {name: (inode, is a folder)} as it was synced last
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._states: list[tuple] = []
        self._originals = {}
        # So that no inode is given to another file: every file that was seen stays open.
        self._open: dict[int, int] = {}

    @property
    def moments(self) -> int:
        """The number of calls so far."""
        return len(self._states) - 1

    def __enter__(self) -> "Disk":
        self._remember()
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            self._originals[name] = getattr(os, name)
            setattr(os, name, self._recorded(name))
        return self

    def __exit__(self, *error: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)
        for descriptor in self._open.values():
            os.close(descriptor)

    def _recorded(self, name):
        original = self._originals[name]

        def call(*arguments, **options):
            self._hold()
            result = original(*arguments, **options)
            if name == "fsync":
                self._sync(arguments[0] if isinstance(arguments[0], int) else arguments[0].fileno())
            self._hold()
            self._remember()
            return result

        return call

    def _hold(self) -> None:
        for path in (self.root, *self.root.rglob("*")):
            inode = path.lstat().st_ino
            if inode not in self._open:
                self._open[inode] = os.open(path, os.O_RDONLY)

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        inode = os.fstat(descriptor).st_ino
        if path.is_dir():
            self._names[inode] = _entries(path)
        else:
            self._contents[inode] = path.read_bytes()

    def _remember(self) -> None:
        seen = {path.lstat().st_ino: _entries(path) for path in (self.root, *self.root.rglob("*")) if path.is_dir()}
        self._states.append((dict(self._contents), dict(self._names), seen))

    def cut(self, after: Path, names_are_kept: bool, moment: int = -1) -> None:
        """Writes to the folder `after` what a power cut leaves, by default at the end."""
        contents, synced, seen = self._states[moment]
        self._write(self.root.stat().st_ino, after, contents, seen if names_are_kept else synced)

    def _write(self, folder: int, after: Path, contents: dict, names: dict) -> None:
        after.mkdir()
        for name, (inode, is_folder) in names.get(folder, {}).items():
            if is_folder:
                self._write(inode, after / name, contents, names)
            else:
                (after / name).write_bytes(contents.get(inode, b""))


def _entries(folder: Path) -> dict[str, tuple[int, bool]]:
    return {path.name: (path.lstat().st_ino, path.is_dir()) for path in folder.iterdir()}
