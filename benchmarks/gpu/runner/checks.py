"""Whether a program's answer is right: against TensorFlow's where it travels with the program, else against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import check_propagation, check_search, check_training
from .execution import Execution
from .wrong import WrongAnswer, compare

# How far numbers may be from TensorFlow's: sums in another order, and products that a GPU rounds to 10 bits.
_TOLERANCE = {"search": 1e-5, "training": 5e-3, "propagation": 1e-4}


def check(execution: Execution, folder: Path) -> str:
    """What was compared, in a few words.

    Raises:
      WrongAnswer: The answer isn't right.
    """
    program = execution.program
    if program.expected is not None:
        return _against_tensorflow(execution, folder / program.expected)
    if program.kind == "search":
        return check_search.check(execution)
    if program.kind == "training":
        return check_training.check(execution)
    if program.kind == "propagation":
        return check_propagation.check(execution)
    return _check_copy(execution)


def _against_tensorflow(execution: Execution, path: Path) -> str:
    program = execution.program
    names = {array.name for array in program.inputs}
    with np.load(path, allow_pickle=False) as file:
        expected = dict(file)
    for name in names & expected.keys():
        execution.set(name, expected[name])
    answer = list(execution.answer().values())
    tolerance = _TOLERANCE[program.kind]
    for number, (array, got) in enumerate(zip(program.outputs, answer)):
        wanted = expected[f"output_{number}"]
        name = array.name or f"output {number}"
        # Hutchinson's probes are drawn anew by another generator: the estimate isn't the same.
        if name.startswith(("delta", "user_delta", "item_delta")) and "Hutchinson" in program.name:
            continue
        compare(name, got, wanted, tolerance)
    return "TensorFlow's answer"


def _check_copy(execution: Execution) -> str:
    original = execution.input("values")
    if not np.array_equal(~execution.answer()["values"], original):
        raise WrongAnswer("the copy isn't the bits of the original turned over")
    return "all bits"
