"""Arrays on the device: those that programs share are drawn once, and dropped when the next program needs others."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import host_array
from .device import Device
from .manifest import Array, Manifest


class Store:
    """Inputs of programs.

    Args:
      device: where they are.
      manifest: with the programs that draw.
    """

    def __init__(self, device: Device, manifest: Manifest) -> None:
        self._device = device
        self._manifest = manifest
        self._groups: dict[str, list[Any]] = {}

    def keep_only(self, inputs: list[Array]) -> None:
        """Frees the arrays that no one of `inputs` is."""
        wanted = {array.source.get("group") for array in inputs}
        for group in [group for group in self._groups if group not in wanted]:
            del self._groups[group]

    def drop(self, array: Array) -> None:
        """Forgets an array that a program was donated, and what was drawn with it."""
        self._groups.pop(array.source.get("group", ""), None)

    def missing_bytes(self, inputs: list[Array]) -> int:
        """What would have to be made for `inputs`."""
        missing = {array.source.get("group") for array in inputs} - self._groups.keys() - {None}
        drawn = [output for group in missing for output in self._manifest.groups[str(group)].outputs]
        return sum(
            int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
            for array in [*drawn, *(array for array in inputs if "group" not in array.source)]
        )

    def get(self, array: Array) -> Any:
        """The array on the device."""
        group = array.source.get("group")
        if group is None:
            return self._device.put(host_array(array, self._manifest.folder))
        if group not in self._groups:
            draw = self._device.compile(self._manifest.hlo(self._manifest.groups[group].file))
            outputs = draw([self._device.put(np.zeros([], np.uint32))])
            self._device.wait(outputs)
            self._groups[group] = outputs
        return self._groups[group][array.source["output"]]
