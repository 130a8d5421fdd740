"""How long TensorFlow itself takes on this machine's CPU, for the programs that fit; the times join the list."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.cells import machine
from benchmarks.gpu.maker import drawing
from benchmarks.gpu.maker.plan import PLANS
from benchmarks.gpu.maker.program import Definition, num_bytes
from benchmarks.gpu.runner.arrays import host_array
from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.manifest import Array, read_manifest
from benchmarks.gpu.runner.timing import measure

_LARGEST_BYTES = 7 * 2**29
_PROGRAM_SECONDS = 12.0


def add_times(folder: Path, seconds: float, report: Callable[[str], None] = print) -> None:
    """Times the programs of a folder in their order until the time is over, and adds the times to its list.

    Args:
      folder: of `make`.
      seconds: for everything.
      report: prints a line.
    """
    manifest = read_manifest(folder)
    definitions = {definition.name: definition for plan in PLANS.values() for definition in plan().definitions}
    deadline, times = time.monotonic() + seconds, dict[str, float]()
    drawn: dict[str, tf.Tensor] = {}
    for program in manifest.programs:
        definition = definitions.get(program.name)
        if definition is None or definition.check_with_tensorflow or program.kind == "copy":
            continue
        if time.monotonic() > deadline or num_bytes(*program.inputs) > _LARGEST_BYTES:
            continue
        drawn = {key: value for key, value in drawn.items() if key in map(_key, program.inputs)}
        measured = _measure(definition, folder, drawn, min(deadline, time.monotonic() + _PROGRAM_SECONDS))
        if measured is not None:
            times[program.name] = measured
            report(f"{program.name:66}{measured:10.3f} ms")
        gc.collect()
    replace(manifest, tensorflow_ms=times, tensorflow_machine=f"TensorFlow {tf.__version__}, {machine()}").save()


def _measure(definition: Definition, folder: Path, drawn: dict[str, tf.Tensor], deadline: float) -> float | None:
    """Median milliseconds of a call that isn't compiled as a whole, as the package runs it on a CPU."""
    if any(array.source["from"] == "group" for array in definition.inputs.values()):
        return None
    source = (definition.on_cpu or definition.build)()
    arguments = [_value(definition.inputs[name], folder, drawn) for name in source.arguments]
    for name, captured in source.captured.items():
        if isinstance(captured, tf.Variable) and name in definition.inputs:
            captured.assign(_value(definition.inputs[name], folder, {}))
    function = tf.function(source.function, autograph=False)
    times = measure(lambda: _wait(function(*arguments)), deadline)
    return None if times is None else times.median_ms


def _value(array: Array, folder: Path, drawn: dict[str, tf.Tensor]) -> tf.Tensor:
    if array.source["from"] != "draw":
        return tf.constant(host_array(array, folder))
    key = _key(array)
    if key not in drawn:
        spec = Draw.from_json(array.source["draw"])
        compiled = tf.function(lambda zero: drawing.draw(spec, zero), jit_compile=True, autograph=False)
        drawn[key] = compiled(tf.constant(0, tf.uint32))
    return drawn[key]


def _key(array: Array) -> str:
    return str(sorted(array.source.items()))


def _wait(result: Any) -> None:
    for value in tf.nest.flatten(result):
        value.numpy()
