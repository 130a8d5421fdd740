"""A program before it is compiled: a function of the package, what it is called with, and what it must move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.manifest import Array


@dataclass(frozen=True)
class Source:
    """A function with all that it reads.

    Args:
      function: of tensors, one for each of `arguments`.
      arguments: names of `Definition.inputs`, in order.
      captured: the variables and tensors that the function reads besides, by names of `Definition.inputs`.
    """

    function: Callable[..., Any]
    arguments: Sequence[str]
    captured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A program of the benchmark.

    Args:
      name: unique.
      kind: see `runner.manifest.Program`.
      settings: sizes, JSON-ready.
      inputs: every array that the function reads, with its source; those that aren't read are left out.
      moved_bytes: what any implementation must read and write.
      build: makes the function. Not before it is needed: a training step comes with gigabytes of variables.
      check_with_tensorflow: whether TensorFlow's own answer travels with the program; for small ones.
      on_cpu: what TensorFlow on a CPU is timed with; None for `build`'s function.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, Array]
    moved_bytes: int
    build: Callable[[], Source]
    check_with_tensorflow: bool = False
    on_cpu: Callable[[], Source] | None = None

    def specs(self, names: Sequence[str]) -> list[tf.TensorSpec]:
        """TensorFlow's specs of the arrays called so."""
        return [tf.TensorSpec(self.inputs[name].shape, self.inputs[name].dtype) for name in names]


def drawn(name: str, draw: Draw, group: str = "", output: int = 0) -> Array:
    """An input that follows from a seed; with a `group` of arrays that are drawn together on the device."""
    source: dict[str, Any] = {"from": "draw", "draw": {**vars(draw), "shape": list(draw.shape)}}
    if group:
        source |= {"group": group, "output": output}
    return Array(draw.shape, draw.dtype, name, source)


def fixed(name: str, value: float, dtype: str) -> Array:
    """A scalar."""
    return Array((), dtype, name, {"from": "value", "value": value})


def indices(name: str, seed: int, size: int, bound: int, skewed: bool = False) -> Array:
    """Rows below `bound`, made on the host; `skewed` has more of the low ones, as items of a log have."""
    source = {"from": "indices", "seed": seed, "bound": bound, "skewed": skewed}
    return Array((size,), "int32", name, source)


def num_bytes(*arrays: Array) -> int:
    """What the arrays hold together."""
    return sum(int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize for array in arrays)
