"""One signature of a SavedModel: checks a request against it as TF Serving does, then runs it."""

from __future__ import annotations

from typing import Any, Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tf_hqgnn.serving.errors import from_exception, invalid_argument, printable
from tf_hqgnn.serving.tensors import decode_tensor, dtype_of
from tf_hqgnn.types import Array


class Signature:
    """Validated calls of one signature function.

    Args:
      definition: The SignatureDef from saved_model.pb.
      function: Takes the inputs as arrays in the order of their names, returns the outputs in the order of theirs.

    Reference: TF Serving, servables/tensorflow/predict_util.cc (PreProcessPrediction) and, for a missing input,
      tensorflow/cc/saved_model/util.cc (GetInputValues). Beyond them, a shape that contradicts the signature is refused
      here with INVALID_ARGUMENT; TF Serving leaves that to whichever op fails on it.
    """

    def __init__(self, definition: meta_graph_pb2.SignatureDef, function: Callable[..., Sequence[Array]]) -> None:
        self.inputs: dict[str, meta_graph_pb2.TensorInfo] = dict(definition.inputs)
        self.outputs: dict[str, meta_graph_pb2.TensorInfo] = dict(definition.outputs)
        self._function = function
        self._order = sorted(self.inputs)
        self._output_order = sorted(self.outputs)
        shapes = {name: tf.TensorShape(info.tensor_shape) for name, info in self.inputs.items()}
        self._dimensions: dict[str, tuple[int | None, ...] | None] = {
            name: None if shape.rank is None else tuple(shape.as_list()) for name, shape in shapes.items()
        }
        self._defaults = {name: decode_tensor(name, value) for name, value in definition.defaults.items()}
        self._has_rows = (
            all(shape.rank == 0 or (shape.rank and shape[0] is None) for shape in shapes.values())
            and any(shape.rank for shape in shapes.values())
            and all(_may_have_rows(tf.TensorShape(info.tensor_shape)) for info in self.outputs.values())
        )

    def check(self, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()) -> list[Array]:
        """The arrays for `run`.

        Args:
          inputs: One array for every input that has no default.
          output_filter: The outputs wanted.

        Raises:
          ServingError: INVALID_ARGUMENT for a wrong name, type, shape or filter.
        """
        self.check_names(inputs)
        self._check_filter(output_filter)
        return [self._feed(position, name, inputs) for position, name in enumerate(self._order)]

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """The outputs, strings as object arrays of bytes, for what `check` returned.

        Raises:
          ServingError: TensorFlow's own code if an op fails.
        """
        try:
            results = self._function(*arrays)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise from_exception(error) from error
        return {name: _array(value) for name, value in zip(self._output_order, results, strict=True)}

    def __call__(self, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()) -> dict[str, Array]:
        """`check`, then `run`; the outputs of `output_filter`, none named means all."""
        outputs = self.run(self.check(inputs, output_filter))
        return select(outputs, output_filter)

    def batch_kind(self, arrays: Sequence[Array], pad: bool) -> Hashable | None:
        """Requests of the same kind may be joined by their first dimension; None may not be joined with any.

        Args:
          arrays: From `check`.
          pad: Whether lists of strings of different lengths may be joined.
        """
        sizes = {len(array) for array in arrays if array.ndim}
        if not self._has_rows or len(sizes) != 1 or 0 in sizes:
            return None
        kind: list[Hashable] = []
        for name, array in zip(self._order, arrays, strict=True):
            if array.ndim == 0:
                kind.append(array.item())
            elif pad and array.dtype == object and None in (self._dimensions[name] or ())[1:]:
                kind.append(None)
            else:
                kind.append(array.shape[1:])
        return tuple(kind)

    def _feed(self, position: int, name: str, inputs: Mapping[str, Array]) -> Array:
        value = inputs[name] if name in inputs else self._defaults[name]
        expected = self.inputs[name].dtype
        if dtype_of(value) != expected:
            raise invalid_argument(
                f"Expects arg[{position}] to be {tf.as_dtype(expected).name} but {_dtype_name(value)} is provided "
                f'(input "{name}")'
            )
        if not _fits(value.shape, self._dimensions[name]):
            raise invalid_argument(
                f'input "{name}" has shape {_shape(value.shape)}, the signature expects '
                f"{_shape(self._dimensions[name])}"
            )
        return value

    def check_names(self, inputs: Iterable[str]) -> None:
        """Raises ServingError (INVALID_ARGUMENT) unless `inputs` are the names of all inputs without a default."""
        sent = set(inputs)
        known = set(self.inputs)
        if sent == known:
            return
        if len(sent) > len(known) or (len(sent) < len(known) and not self._defaults):
            raise invalid_argument(
                f"input size does not match signature: {len(sent)}!={len(known)} len({_set(sent)}) != "
                f"len({_set(known)}). Sent extra: {_set(sent - known)}. Missing but required: {_set(known - sent)}."
            )
        for name in sorted(sent - known):
            raise invalid_argument(
                f"input tensor alias not found in signature: {printable(name)}. Inputs expected to be in the set "
                f"{_set(known)}."
            )
        for name in sorted(known - sent - set(self._defaults)):
            raise invalid_argument(
                f"Signature input alias: {name}(feed name: {self.inputs[name].name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {_set(sent)}, or default input alias "
                f"set: {','.join(sorted(self._defaults))}"
            )

    def _check_filter(self, output_filter: Sequence[str]) -> None:
        seen: set[str] = set()
        for name in output_filter:
            if name not in self.outputs:
                raise invalid_argument(
                    f"output tensor alias not found in signature: {printable(name)} Outputs expected to be in the set "
                    f"{_set(self.outputs)}."
                )
            if name in seen:
                raise invalid_argument(f"duplicate output tensor alias: {name}")
            seen.add(name)


def select(outputs: Mapping[str, Array], output_filter: Sequence[str]) -> dict[str, Array]:
    """The outputs named, in that order; all if none is."""
    return {name: outputs[name] for name in output_filter or outputs}


def _fits(shape: tuple[int, ...], dimensions: tuple[int | None, ...] | None) -> bool:
    return dimensions is None or (
        len(shape) == len(dimensions)
        and all(wanted is None or size == wanted for size, wanted in zip(shape, dimensions, strict=True))
    )


def _may_have_rows(shape: tf.TensorShape) -> bool:
    return shape.rank is None or (shape.rank > 0 and shape[0] is None)


def _array(value: Any) -> Array:
    # A scalar string comes as bytes, of which NumPy's own string type would drop trailing zeros.
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _set(names: Iterable[str]) -> str:
    return "{" + printable(",".join(printable(name) for name in sorted(names)), 500) + "}"


def _dtype_name(value: Array) -> str:
    number = dtype_of(value)
    return tf.as_dtype(number).name if number else str(value.dtype)


def _shape(shape: Any) -> str:
    dimensions = tf.TensorShape(shape)
    if dimensions.rank is None:
        return "[?]"
    return "[" + ",".join("?" if size is None else str(size) for size in dimensions) + "]"
