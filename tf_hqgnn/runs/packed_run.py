"""A run directory in memory: what a model that was trained from Python leaves on no disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tf_hqgnn.files.durable import list_files, staged_folder
from tf_hqgnn.types import InputError

# What only the training itself needs.
_LEFT_OUT = ("checkpoints/", "tensorboard/")


@dataclass(frozen=True, eq=False)
class PackedRun:
    """The files of a finished run.

    Args:
      files: their contents by their names within the run directory, without checkpoints and TensorBoard's logs.
    """

    files: Mapping[str, bytes]

    @staticmethod
    def read(folder: Path) -> PackedRun:
        """The files of a run directory."""
        names = [name for name in list_files(folder) if not any(part in f"/{name}" for part in _LEFT_OUT)]
        return PackedRun({name: (folder / name).read_bytes() for name in sorted(names)})

    def write(self, folder: Path) -> None:
        """Writes the run directory, which appears when it is complete.

        Raises:
          InputError: `folder` is there already.
        """
        if folder.exists():
            raise InputError(f"{folder} exists already; choose another folder, or delete it")
        with staged_folder(folder) as staged:
            for name, content in self.files.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content)

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """The run directory, in a temporary folder that goes when the block ends."""
        with tempfile.TemporaryDirectory(prefix="tf_hqgnn-") as folder:
            self.write(Path(folder) / "run")
            yield Path(folder) / "run"
