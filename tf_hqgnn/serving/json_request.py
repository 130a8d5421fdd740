"""TF Serving's JSON requests, read into arrays.

Reference: TF Serving, util/json_tensor.cc (FillPredictRequestFromJson).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
from typing import Any, Callable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tf_hqgnn.serving.errors import ServingError, invalid_argument
from tf_hqgnn.serving.limits import MAX_RANK, Limits
from tf_hqgnn.types import Array

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]

# Values of a document at most. Each takes some 60 bytes once it is read, and reading holds up all threads.
MAX_VALUES = 1 << 19
_SHOWN = 200


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a request, its `signature_name` checked.

    Raises:
      ServingError: INVALID_ARGUMENT if it isn't a JSON object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    _check_size(body)
    try:
        # Not as bytes, which might be UTF-16 as well.
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {_show(document)} Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_show(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    _encode_utf8(name)
    return document


def _check_size(body: bytes) -> None:
    """Counts values before there are any: each but the first follows a comma, a colon or a bracket."""
    count = _count_values(body)
    if count > MAX_VALUES:
        # What stands in strings doesn't count. A string is a value or a key itself, so there can't be too many.
        plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        if plain.count(b'"') <= 4 * MAX_VALUES:
            count = _count_values(b"".join(plain.split(b'"')[::2]))
    if count > MAX_VALUES:
        raise invalid_argument(f"the request has some {count} JSON values, this server reads {MAX_VALUES}: split it")


def _count_values(body: bytes) -> int:
    return sum(map(body.count, (b",", b":", b"[", b"{")))


def decode_inputs(
    document: Mapping[str, Any], inputs: Inputs, limits: Limits | None = None
) -> tuple[dict[str, Array], bool]:
    """The input arrays in a request.

    Args:
      document: Holds `instances` (row format: a list with one value or object per row) or `inputs` (column format: one
        value, or an object of whole tensors).
      inputs: The signature's.
      limits: What an input may have, asked before arrays are made; None for the defaults.

    Returns:
      The arrays by name, and whether the format is by row, since the answer follows it.

    Raises:
      ServingError: INVALID_ARGUMENT, saying which value is wrong.
    """
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    limits = limits or Limits()
    if "instances" in document:
        return _from_rows(document["instances"], inputs, limits), True
    if "inputs" in document:
        return _from_columns(document["inputs"], inputs, limits), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _from_rows(rows: Any, inputs: Inputs, limits: Limits) -> dict[str, Array]:
    if not isinstance(rows, list):
        raise invalid_argument(f"JSON Value: {_show(rows)} Expecting 'instances' to be a list/array")
    if not rows:
        raise invalid_argument("JSON Value: No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            f"tensorinfo_map: {','.join(sorted(inputs))}"
        )
    as_objects = _is_named(rows[0])
    for name in inputs:
        limits.check_shape(name, [len(rows)])
    columns: dict[str, list[Array]] = {name: [] for name in inputs}
    for number, row in enumerate(rows):
        if _is_named(row) != as_objects:
            wanted, got = ("object", "list") if as_objects else ("value/list", "object")
            raise invalid_argument(f"Expecting {wanted} but got {got} at item {number} of input list")
        if as_objects and set(row) != set(inputs):
            raise invalid_argument(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_show(row)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
        for name, value in row.items() if as_objects else ((next(iter(inputs)), row),):
            before = columns[name]
            array = _row_value(number, name, value, inputs[name].dtype, before)
            if not before:
                limits.check_shape(name, [len(rows), *array.shape])
            before.append(array)
    return {name: np.stack(values) for name, values in columns.items()}


def _row_value(number: int, name: str, value: Any, dtype: int, before: list[Array]) -> Array:
    try:
        array = _array(value, dtype)
    except ServingError as error:
        raise invalid_argument(
            f"Failed to process element: {number} key: {name} of 'instances' list. Error: {error.message}"
        ) from error
    if before and before[0].shape != array.shape:
        raise invalid_argument(
            f"Failed to process element: {number} key: {name} of 'instances' list. Error: Expecting shape "
            f"{list(before[0].shape)} but got: {list(array.shape)}"
        )
    return array


def _from_columns(value: Any, inputs: Inputs, limits: Limits) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                f"tensorinfo_map: {','.join(sorted(inputs))}"
            )
        name = next(iter(inputs))
        return {name: _array(value, inputs[name].dtype, functools.partial(limits.check_shape, name))}
    for name in sorted(inputs):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {
        name: _array(value[name], info.dtype, functools.partial(limits.check_shape, name))
        for name, info in inputs.items()
    }


def _array(value: Any, dtype: int, check: Callable[[list[int]], None] = lambda _: None) -> Array:
    """A value or nested lists of one shape, as an array of the TensorFlow type `dtype`."""
    shape = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if len(shape) > MAX_RANK:
            raise invalid_argument(f"lists are nested more than {MAX_RANK} deep")
        if not level:
            break
        level = level[0]
    check(shape)
    flat: list[Any] = []
    _fill(value, 0, shape, tf.as_dtype(dtype), flat)
    array = np.empty(len(flat), object) if dtype == tf.string.as_datatype_enum else None
    if array is None:
        return np.array(flat, tf.as_dtype(dtype).as_numpy_dtype).reshape(shape)
    array[:] = flat
    return array.reshape(shape)


def _fill(value: Any, level: int, shape: list[int], dtype: tf.DType, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_show(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for inner in value:
        _fill(inner, level + 1, shape, dtype, flat)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return _encode_utf8(value)
        if isinstance(value, dict):
            return _base64(value)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        pass  # No number: refused below.
    elif dtype.is_floating:
        return _decimal(value, dtype)
    elif dtype.is_integer and isinstance(value, int) and dtype.min <= value <= dtype.max:
        return value
    raise invalid_argument(f"JSON Value: {_show(value)} Type: {_kind(value)} is not of expected type: {dtype.name}")


def _decimal(value: Any, dtype: tf.DType) -> float:
    """As IsLosslessDecimal: whole numbers within the mantissa, others within the range."""
    limits = np.finfo(dtype.as_numpy_dtype)
    fits = abs(value) <= (1 << (limits.nmant + 1)) - 1 if isinstance(value, int) else True
    if isinstance(value, float) and math.isfinite(value):
        fits = abs(value) <= float(limits.max)
    if not fits:
        raise invalid_argument(f"Cannot convert JSON value: {_show(value)} to {dtype.name} without loss of precision.")
    return float(value)


def _encode_utf8(value: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:  # A lone surrogate, written as an escape.
        raise invalid_argument(f"JSON Value: {_show(value)} is not valid Unicode: {error.reason}") from error


def _base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {_show(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _kind(value: Any) -> str:
    kinds = {bool: "True" if value is True else "False", int: "Number", float: "Number", str: "String", list: "Array"}
    return "Null" if value is None else kinds.get(type(value), "Object")


def _show(value: Any) -> str:
    """The beginning of a value, as JSON; no more of it is looked at than is shown."""
    text = ""
    for piece in json.JSONEncoder().iterencode(value):
        text += piece
        if len(text) > _SHOWN:
            return f"{text[:_SHOWN]}..."
    return text
