"""TensorProto <-> NumPy, in the field of each type as TF Serving answers."""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tf_hqgnn.serving.errors import invalid_argument, printable
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.types import Array

# The typed field of each dtype. TF Serving answers in these (Tensor::AsProtoField), some clients read no other.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
}
# Those whose field can't hold a value out of range; `tf.make_ndarray` knows the others.
_PLAIN = {
    types_pb2.DT_FLOAT: np.float32,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_BOOL: np.bool_,
    types_pb2.DT_STRING: object,
}


def decode_tensor(name: str, proto: tensor_pb2.TensorProto, limits: Limits | None = None) -> Array:
    """The array in `proto`; strings as an object array of bytes.

    A proto may state a shape of billions and hold one value, which then fills it: the limits come first.

    Args:
      name: The input's name, for the error.
      proto: As a client sent it: typed field or tensor_content.
      limits: What an input may have; None for the defaults.

    Raises:
      ServingError: INVALID_ARGUMENT if the values don't fit the shape, the type is unknown or the tensor is too large.
    """
    limits = limits or Limits()
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        shown = printable(str(sizes)) if sizes else "no rank"
        raise invalid_argument(f"{_place(name)}: its shape must be fully known, got {shown}")
    limits.check_shape(name, sizes)
    count = math.prod(sizes)
    values = proto.string_val
    if len(values) < count and len(values) and (count - len(values)) * len(values[-1]) > limits.message_bytes:
        raise invalid_argument(
            f"{_place(name)}: {count} strings of {len(values[-1])} bytes are more than this server allows"
        )
    plain = _PLAIN.get(proto.dtype)
    if plain is not None:
        values = getattr(proto, _FIELDS[proto.dtype])
        if count == len(values) > 0 and not proto.tensor_content:
            return np.array(values[:], plain).reshape(sizes)
    try:
        return cast(Array, tf.make_ndarray(proto))
    except (TypeError, ValueError, KeyError) as error:
        raise invalid_argument(f"{_place(name)}: {error}") from error


def _place(name: str) -> str:
    return f"tensor parsing error: {printable(name)}"


def encode_tensor(array: Array, proto: tensor_pb2.TensorProto) -> None:
    """Writes `array` (any shape; strings as bytes objects) into an empty `proto`.

    >>> proto = tensor_pb2.TensorProto()
    >>> encode_tensor(np.array([[1.5, 2.5]], np.float32), proto)
    >>> list(proto.float_val), [dimension.size for dimension in proto.tensor_shape.dim]
    ([1.5, 2.5], [1, 2])
    """
    dtype = dtype_of(array)
    field = _FIELDS.get(dtype)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = dtype
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    getattr(proto, field).extend(array.ravel().tolist())


def dtype_of(array: Array) -> Any:
    """The types_pb2 number of an array's type; 0 (DT_INVALID) if TensorFlow has none.

    >>> dtype_of(np.array([b"a"], object)) == types_pb2.DT_STRING
    True
    """
    return _number_of(array.dtype)


@functools.lru_cache(maxsize=64)
def _number_of(dtype: Any) -> Any:
    if dtype.kind in "OSU":
        return types_pb2.DT_STRING
    try:
        return tf.as_dtype(dtype).as_datatype_enum
    except TypeError:
        return types_pb2.DT_INVALID
