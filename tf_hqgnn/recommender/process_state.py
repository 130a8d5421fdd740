"""What training would change of a caller's process, and doesn't."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def quieten() -> None:
    """Keeps TensorFlow's greetings out of a notebook, if this is what loads it."""
    from tf_hqgnn.logs import quieten_libraries

    if "tensorflow" not in sys.modules:
        quieten_libraries()


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Gives the caller's generators back as they were: training sets their seeds."""
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
