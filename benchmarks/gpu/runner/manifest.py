"""The list of programs in a folder: what each is called with, what it gives back, and what it has to move."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
FILE_NAME = "programs.json"


class ProgramsError(Exception):
    """The folder can't be used; the message says what is wrong and how to mend it."""


@dataclass(frozen=True)
class Array:
    """An array of a program.

    Args:
      shape: its sizes.
      dtype: NumPy's name of it.
      name: of an input, or of an output that a check asks for.
      source: of an input, where it comes from (`arrays.ArraySource`).
      donated: of an output, the input whose memory it takes and whose place it has in the next call.
    """

    shape: tuple[int, ...]
    dtype: str
    name: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    donated: int | None = None


@dataclass(frozen=True)
class Program:
    """A compiled program.

    Args:
      name: unique.
      kind: which check it has: "copy", "search", "training", "propagation".
      file: the compressed HLO, in the folder.
      settings: sizes and what else the check wants to know.
      inputs: in the order of the parameters.
      outputs: in their order.
      moved_bytes: what any implementation must read and write.
      expected: an .npz in the folder: TensorFlow's `output_0`, ..., for the inputs in it and those of `inputs`.
    """

    name: str
    kind: str
    file: str
    settings: dict[str, Any]
    inputs: list[Array]
    outputs: list[Array]
    moved_bytes: int
    expected: str | None = None


@dataclass(frozen=True)
class Group:
    """Arrays that one compiled program without inputs draws on the device."""

    name: str
    file: str
    outputs: list[Array]


@dataclass(frozen=True)
class Manifest:
    """All of a folder; `programs` in the order in which they should run, the most important first.

    Args:
      folder: where it was read.
      tensorflow: the version that compiled the programs.
      commit: of this project.
      programs: to run.
      groups: to draw inputs with, by name.
      tensorflow_ms: median milliseconds of TensorFlow on the CPU of the machine that made the programs, where measured.
      tensorflow_machine: that machine.
    """

    folder: Path
    tensorflow: str
    commit: str
    programs: list[Program]
    groups: dict[str, Group]
    tensorflow_ms: dict[str, float] = field(default_factory=dict)
    tensorflow_machine: str = ""

    def hlo(self, file: str) -> bytes:
        """The program in `file`.

        Raises:
          ProgramsError: It isn't there, or is damaged.
        """
        try:
            return gzip.decompress((self.folder / file).read_bytes())
        except (OSError, EOFError, ValueError) as error:
            raise ProgramsError(f"the program file {file} can't be read ({error}): make the folder again") from error

    def save(self) -> None:
        """Writes the list into its folder."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        text = json.dumps({"format": FORMAT, **values}, indent=1)
        (self.folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """What `Manifest.save` wrote.

    Raises:
      ProgramsError: There is no such folder, it isn't one of programs, or it is one of another format.
    """
    again = "make it with `make gpu-programs`"
    if not folder.is_dir():
        raise ProgramsError(f"there is no folder {folder}: {again}")
    path = folder / FILE_NAME
    if not path.is_file():
        raise ProgramsError(f"{folder} is not a folder of programs, it has no {FILE_NAME}: {again}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format")
        if found != FORMAT:
            raise ProgramsError(
                f"{path} has the format {found}, this run.py reads format {FORMAT}: make the folder again with the "
                "checkout that run.py is from"
            )
        programs = [
            Program(**{**program, "inputs": _arrays(program["inputs"]), "outputs": _arrays(program["outputs"])})
            for program in values.pop("programs")
        ]
        groups = {
            name: Group(**{**group, "outputs": _arrays(group["outputs"])})
            for name, group in values.pop("groups").items()
        }
        return Manifest(folder=folder, programs=programs, groups=groups, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProgramsError(f"{path} is damaged ({type(error).__name__}: {error}): {again} again") from error


def _arrays(values: list[dict[str, Any]]) -> list[Array]:
    return [Array(**{**value, "shape": tuple(value["shape"])}) for value in values]
