"""TFRecord files of tf.Example."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tf_hqgnn.data.chunks import Chunks
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.tfrecord import read_tfrecord
from tf_hqgnn.data.tfrecord_file import is_record_header


@INPUT_FORMATS.register("tfrecord")
class TfRecord(InputFormat):
    """Records that are serialized tf.Examples, one for each interaction.

    Example:
      >>> ".tfrecord" in TfRecord().suffixes
      True
    """

    suffixes: ClassVar[tuple[str, ...]] = (".tfrecord", ".tfrecords")
    is_text: ClassVar[bool] = False

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_tfrecord(path, log, self.columns)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`."""
        return is_record_header(lines[0])
