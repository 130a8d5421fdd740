"""The interface of every format of interactions, and the registry of formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    from tf_hqgnn.data.chunks import Chunks
    from tf_hqgnn.data.report import BadRowLog


class InputFormat(ABC):
    """How files of one format are told from others, and read.

    A format is registered by `@INPUT_FORMATS.register(name)` in a module of this package, and then `data.format` may
    name it.

    Args:
      columns: what columns are called in the files.

    Attributes:
      name: the value of `data.format`.
      suffixes: file name extensions that mean this format, in lower case, without that of a compression.
      is_text: whether the files are text in UTF-8.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    is_text: ClassVar[bool] = True

    def __init__(self, columns: ColumnNames = STANDARD_NAMES) -> None:
        self.columns = columns

    @abstractmethod
    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """Yields the good rows of one file, and notes the others in `log`.

        Raises:
          InputError: The file isn't of this format, lacks a column, is damaged or is cut off.
        """

    def recognizes(self, lines: list[bytes]) -> bool:
        """Whether a file whose name says nothing is of this format, and no other one can be meant.

        Args:
          lines: the first lines of a text, blank ones left out, at least one; of what isn't text, the first bytes.
        """
        return False

    def integer_ids(self, path: Path) -> frozenset[str]:
        """The id columns that hold integers instead of strings; empty where files of the format don't tell."""
        return frozenset()


INPUT_FORMATS: Registry[InputFormat] = Registry("format", package="tf_hqgnn.data.formats")
