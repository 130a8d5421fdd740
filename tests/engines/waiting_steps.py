"""A step that waits for a file: what is done while it waits is done in the middle of a job. Workers import this."""

import time
from pathlib import Path

import apache_beam as beam

from tf_hqgnn.beam.mistakes import noted
from tf_hqgnn.types import InputError

MISTAKE = -1


class Wait(beam.DoFn):
    """Writes `out-N` for the number N once the file `gate` is there, and `asked-N` when it begins to wait for that."""

    def __init__(self, folder):
        self._folder = folder

    @noted
    def process(self, number):
        if number == MISTAKE:
            raise InputError("numbers.csv: -1 is no number")
        folder = Path(self._folder)
        (folder / f"asked-{number}").touch()
        while not (folder / "gate").exists():
            time.sleep(0.05)
        (folder / f"out-{number}").write_bytes(b"complete")
        yield number
