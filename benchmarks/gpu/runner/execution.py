"""A program with its inputs on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Compiled, Device
from .manifest import Program
from .store import Store


class Execution:
    """Calls a program again and again. An output that has an input's memory is that input in the next call.

    Args:
      program: what is called.
      compiled: the same, ready to run.
      device: where.
      store: of the inputs.
    """

    def __init__(self, program: Program, compiled: Compiled, device: Device, store: Store) -> None:
        self.program = program
        self._compiled, self._device = compiled, device
        self._arguments = [store.get(array) for array in program.inputs]
        for output in program.outputs:
            if output.donated is not None:
                store.drop(program.inputs[output.donated])
        self._places = {array.name: number for number, array in enumerate(program.inputs)}

    def set(self, name: str, values: np.ndarray) -> None:
        """Gives an input other values."""
        array = self.program.inputs[self._places[name]]
        if values.shape != array.shape:
            raise ValueError(f"{name} must have the shape {array.shape}, got {values.shape}")
        self._arguments[self._places[name]] = self._device.put(values.astype(array.dtype, copy=False))

    def input(self, name: str) -> np.ndarray:
        """A copy of an input."""
        return self._device.fetch(self._arguments[self._places[name]])

    def call(self) -> list[Any]:
        """The outputs, computed, still on the device."""
        outputs = self._compiled(self._arguments)
        for output, array in zip(outputs, self.program.outputs):
            if array.donated is not None:
                self._arguments[array.donated] = output
        self._device.wait(outputs)
        return outputs

    def answer(self) -> dict[str, np.ndarray]:
        """The outputs of a call, by name; those without are "output_0", ..."""
        return {
            array.name or f"output_{number}": self._device.fetch(output)
            for number, (output, array) in enumerate(zip(self.call(), self.program.outputs))
        }
