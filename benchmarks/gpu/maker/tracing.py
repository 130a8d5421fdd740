"""What TensorFlow compiles a function to, and what the result's parameters and outputs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tensorflow.compiler.xla.service import hlo_pb2  # isort: skip  (generated code, not a public name)

_DTYPES = {1: "bool", 2: "int8", 4: "int32", 5: "int64", 6: "uint8", 8: "uint32", 9: "uint64"}
_DTYPES |= {3: "int16", 7: "uint16", 10: "float16", 11: "float32", 12: "float64"}


@dataclass(frozen=True)
class Array:
    """A parameter or an output: its shape, and NumPy's name of its dtype."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Traced:
    """A compiled program.

    Args:
      hlo: a serialized HloModuleProto.
      parameters: in the order of the program.
      captured: names of the variables and tensors that the last parameters stand for.
      returned: names of what the function returns, "" where it returns no dict.
      outputs: in the order of the program: what the function returns, then the variables that it changes.
      donated: for each output the parameter whose memory it takes; None if it has its own.
    """

    hlo: bytes
    parameters: list[Array]
    captured: list[str]
    returned: list[str]
    outputs: list[Array]
    donated: list[int | None]


def trace(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec], captured: Mapping[str, Any] | None = None
) -> Traced:
    """Compiles `function` as a `tf.function` of XLA.

    Args:
      function: of tensors; what it reads besides becomes parameters after its own.
      specs: of its arguments, shapes known.
      captured: variables and tensors that it reads, by name.

    Raises:
      ValueError: The function reads something that isn't named, or it has a parameter that the program hasn't.
    """
    compiled = tf.function(lambda *tensors: function(*tensors), jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(*specs)
    names = [_name(value, captured or {}) for value in concrete.captured_inputs]
    hlo = compiled.experimental_get_compiler_ir(*specs)(stage="hlo_serialized")
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    _replace_copies(module)
    shapes = module.host_program_shape
    results = list(shapes.result.tuple_shapes) or [shapes.result]
    donated = [None] * len(results)
    for entry in module.input_output_alias.entries:
        donated[entry.output_shape_index[0] if entry.output_shape_index else 0] = entry.parameter_number
    parameters = [_array(shape) for shape in shapes.parameters]
    given = [Array(tuple(spec.shape), spec.dtype.name) for spec in specs]
    if parameters[: len(given)] != given or len(parameters) != len(given) + len(names):
        raise ValueError(f"the program's parameters are {parameters}, but it was traced with {given} and {names}")
    structure = concrete.structured_outputs
    returned = sorted(structure) if isinstance(structure, dict) else [""] * len(tf.nest.flatten(structure))
    return Traced(
        module.SerializeToString(deterministic=True),
        parameters,
        names,
        returned,
        [_array(shape) for shape in results],
        donated,
    )


def _replace_copies(module: Any) -> None:
    """Makes each copy a reshape to the same shape.

    TensorFlow copies what a variable becomes. The portable form in which jaxlib hands a program to a GPU's plugin has
    no copy, and XLA adds the ones that it needs.
    """
    for computation in module.computations:
        for instruction in computation.instructions:
            if instruction.opcode == "copy":
                instruction.opcode = "reshape"


def _name(value: Any, captured: Mapping[str, Any]) -> str:
    for name, known in captured.items():
        handle = known.handle if isinstance(known, tf.Variable) else known
        if handle is value:
            return name
    raise ValueError(
        f"the function reads {value.dtype.name} {list(value.shape)}, which has no name: pass it as an argument, or "
        "name it in `captured`"
    )


def _array(shape: Any) -> Array:
    return Array(tuple(shape.dimensions), _DTYPES[shape.element_type])
