"""One signature of a SavedModel: checks a request against it as TF Serving does, then calls it."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tf_hqgnn.serving.errors import from_exception, invalid_argument
from tf_hqgnn.serving.tensors import decode_tensor, dtype_of


class Signature:
    """Validated calls of one signature function.

    Args:
      definition: The SignatureDef from saved_model.pb.
      function: Takes the inputs as keyword tensors, returns a dict of tensors. Never traced again: its graph is fixed.

    Reference: TF Serving, servables/tensorflow/predict_util.cc (PreProcessPrediction) and, for a missing input,
      tensorflow/cc/saved_model/util.cc (GetInputValues). Beyond them, a shape that contradicts the signature is refused
      here with INVALID_ARGUMENT; TF Serving leaves that to whichever op fails on it.
    """

    def __init__(
        self, definition: meta_graph_pb2.SignatureDef, function: Callable[..., Mapping[str, tf.Tensor]]
    ) -> None:
        self.inputs: dict[str, meta_graph_pb2.TensorInfo] = dict(definition.inputs)
        self.outputs: dict[str, meta_graph_pb2.TensorInfo] = dict(definition.outputs)
        self._function = function
        self._order = sorted(self.inputs)
        self._shapes = {name: tf.TensorShape(info.tensor_shape) for name, info in self.inputs.items()}
        self._dtypes = {name: tf.as_dtype(info.dtype) for name, info in self.inputs.items()}
        self._defaults = {name: decode_tensor(name, value) for name, value in definition.defaults.items()}

    def __call__(self, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Runs the function.

        Args:
          inputs: One array for every input that has no default.
          output_filter: The outputs wanted; none named means all.

        Returns:
          The outputs as arrays; strings as object arrays of bytes.

        Raises:
          ServingError: INVALID_ARGUMENT for a wrong name, type, shape or filter; TensorFlow's own code if an op fails.
        """
        self._check_names(inputs)
        self._check_filter(output_filter)
        feeds = {name: self._feed(position, name, inputs) for position, name in enumerate(self._order)}
        try:
            results = self._function(**feeds)
            return {name: _array(results[name]) for name in output_filter or results}
        except tf.errors.OpError as error:
            raise from_exception(error) from error

    def _feed(self, position: int, name: str, inputs: Mapping[str, np.ndarray]) -> tf.Tensor:
        value = inputs[name] if name in inputs else self._defaults[name]
        expected = self._dtypes[name]
        if dtype_of(value) != expected.as_datatype_enum:
            raise invalid_argument(
                f'Expects arg[{position}] to be {expected.name} but {_dtype_name(value)} is provided (input "{name}")'
            )
        if not self._shapes[name].is_compatible_with(value.shape):
            raise invalid_argument(
                f'input "{name}" has shape {_shape(value.shape)}, the signature expects {_shape(self._shapes[name])}'
            )
        return tf.constant(value, expected)

    def _check_names(self, inputs: Iterable[str]) -> None:
        sent = set(inputs)
        known = set(self.inputs)
        if len(sent) > len(known) or (len(sent) < len(known) and not self._defaults):
            raise invalid_argument(
                f"input size does not match signature: {len(sent)}!={len(known)} len({_set(sent)}) != "
                f"len({_set(known)}). Sent extra: {_set(sent - known)}. Missing but required: {_set(known - sent)}."
            )
        for name in sorted(sent - known):
            raise invalid_argument(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {_set(known)}."
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
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{_set(self.outputs)}."
                )
            if name in seen:
                raise invalid_argument(f"duplicate output tensor alias: {name}")
            seen.add(name)


def _array(tensor: tf.Tensor) -> np.ndarray:
    value = tensor.numpy()
    # A scalar string comes as bytes, of which NumPy's own string type would drop trailing zeros.
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _dtype_name(value: np.ndarray) -> str:
    number = dtype_of(value)
    return tf.as_dtype(number).name if number else str(value.dtype)


def _shape(shape: Any) -> str:
    dimensions = tf.TensorShape(shape)
    if dimensions.rank is None:
        return "[?]"
    return "[" + ",".join("?" if size is None else str(size) for size in dimensions) + "]"
