"""A folder of programs: traced, compressed, with TensorFlow's answers to the small ones."""

from __future__ import annotations

import gc
import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.cells import commit
from benchmarks.gpu.maker import drawing, graphs
from benchmarks.gpu.maker.plan import Plan
from benchmarks.gpu.maker.program import Definition, Source
from benchmarks.gpu.maker.tracing import Traced, trace
from benchmarks.gpu.runner.arrays import EXCLUDED_AHEAD, host_array
from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.manifest import Array, Group, Manifest, Program


def write(plan: Plan, folder: Path, report: Callable[[str], None] = print) -> Manifest:
    """Writes the programs of `plan` into `folder`, which is emptied of programs made before."""
    for old in (*folder.glob("*.hlo.gz"), *folder.glob("*.npz"), *folder.glob("*.json")):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in plan.graphs.items():
        graphs.save(graph, folder / name)
    manifest = Manifest(folder, tf.__version__, commit(), [], {})
    for number, definition in enumerate(plan.definitions):
        manifest.programs.append(_program(definition, number, manifest))
        if definition.kind == "training":
            # A model's tables take gigabytes, and it refers to itself.
            gc.collect()
        report(definition.name)
    for group, arrays in _groups(plan.definitions).items():
        manifest.groups[group] = _group(group, len(manifest.groups), arrays, plan, folder)
    manifest.save()
    return manifest


def _program(definition: Definition, number: int, manifest: Manifest) -> Program:
    source = definition.build()
    traced = trace(source.function, definition.specs(source.arguments), source.captured)
    names = [*source.arguments, *traced.captured]
    inputs = [definition.inputs[name] for name in names]
    for array, parameter in zip(inputs, traced.parameters):
        if (array.shape, array.dtype) != (parameter.shape, parameter.dtype):
            raise ValueError(f"{definition.name}: {array.name} is {array}, but the program wants {parameter}")
    file = f"{number:03}.hlo.gz"
    _save(traced, manifest.folder / file)
    program = Program(
        name=definition.name,
        kind=definition.kind,
        file=file,
        settings=definition.settings,
        inputs=inputs,
        outputs=_outputs(traced, names),
        moved_bytes=definition.moved_bytes,
    )
    if not definition.check_with_tensorflow:
        return program
    program = replace(program, expected=f"{number:03}.npz")
    _save_answers(program, source, names, manifest)
    return program


def _outputs(traced: Traced, names: Sequence[str]) -> list[Array]:
    """Outputs with names: of what is returned, then of the variables that change."""
    outputs = []
    for number, (array, donated) in enumerate(zip(traced.outputs, traced.donated)):
        name = traced.returned[number] if donated is None else names[donated]
        outputs.append(Array(array.shape, array.dtype, name, donated=donated))
    return outputs


def _save_answers(program: Program, source: Source, names: Sequence[str], manifest: Manifest) -> None:
    """TensorFlow's own answer, and the inputs that nothing but the answer tells."""
    values = {array.name: host_array(array, manifest.folder) for array in program.inputs}
    # Tensors of the model can't be set: the program gets what they hold.
    saved = {
        name: source.captured[name].numpy()
        for name in names[len(source.arguments) :]
        if not isinstance(source.captured[name], tf.Variable)
    }
    if "excluded" in values:
        # What would have been first is excluded.
        _, best = answer(source, values, names)
        values["excluded"][:, :EXCLUDED_AHEAD] = best[:, :EXCLUDED_AHEAD]
        saved["excluded"] = values["excluded"]
    outputs = answer(source, values, names)
    changed = [output.name for output in program.outputs if output.donated is not None]
    outputs += [source.captured[name].numpy() for name in changed]
    saved |= {f"output_{number}": value for number, value in enumerate(outputs)}
    np.savez_compressed(manifest.folder / str(program.expected), **saved)


def answer(source: Source, values: dict[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """What TensorFlow answers without compiling the function; variables are set to `values` before."""
    for name in names[len(source.arguments) :]:
        if isinstance(source.captured[name], tf.Variable):
            source.captured[name].assign(values[name])
    given = [tf.constant(values[name]) for name in source.arguments]
    result = tf.function(source.function, autograph=False)(*given)
    return [value.numpy() for value in tf.nest.flatten(result)]


def _groups(definitions: Sequence[Definition]) -> dict[str, list[Array]]:
    """Arrays of each group that any program reads, by their place in it."""
    groups: dict[str, dict[int, Array]] = {}
    for definition in definitions:
        for array in definition.inputs.values():
            if "group" in array.source:
                groups.setdefault(array.source["group"], {})[array.source["output"]] = array
    return {name: [arrays[number] for number in sorted(arrays)] for name, arrays in groups.items()}


def _group(name: str, number: int, arrays: list[Array], plan: Plan, folder: Path) -> Group:
    def draw_all(zero: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(drawing.draw(Draw.from_json(array.source["draw"]), zero) for array in arrays)

    traced = trace(plan.drawings.get(name, draw_all), [drawing.ZERO])
    file = f"draw-{number:03}.hlo.gz"
    _save(traced, folder / file)
    return Group(name, file, [Array(array.shape, array.dtype) for array in traced.outputs])


def _save(traced: Traced, path: Path) -> None:
    # Without a time, so that the same programs make the same bytes.
    path.write_bytes(gzip.compress(traced.hlo, mtime=0))
