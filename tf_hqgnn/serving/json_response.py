"""Arrays written as TF Serving's JSON answers.

Reference: TF Serving, util/json_tensor.cc (MakeJsonFromTensors). As there, a float that isn't finite is written NaN,
Infinity or -Infinity, which is more than the JSON standard allows; Python, rapidjson and most HTTP clients for TF
Serving read it, JavaScript's JSON.parse doesn't. The padding of too short answers is such a -Infinity. One departure: a
string that isn't UTF-8 is written {"b64": ..}, whatever the output's name, and not as broken text.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Callable, Mapping

import numpy as np

from tf_hqgnn.serving.errors import invalid_argument
from tf_hqgnn.types import Array

# Strings of an output with this ending are bytes, written in base64.
_BYTES_SUFFIX = "_bytes"
_Writer = Callable[[Any], str]


def encode_outputs(outputs: Mapping[str, Array], by_row: bool) -> str:
    """The body of an answer: {"predictions": [..]} by row, {"outputs": ..} by column; a lone output has no name.

    Raises:
      ServingError: INVALID_ARGUMENT if, by row, the outputs have no first dimension or not the same one.

    >>> encode_outputs({"score": np.array([[0.5, -np.inf]], np.float32), "known": np.array([True])}, by_row=True)
    '{"predictions": [{"known": true, "score": [0.5, -Infinity]}]}'
    >>> encode_outputs({"item_id": np.array([b"a", b"b"], object)}, by_row=False)
    '{"outputs": ["a", "b"]}'
    """
    names = sorted(outputs)
    if not by_row:
        texts = {name: _text(outputs[name], _writer(name, outputs[name])) for name in names}
        return f'{{"outputs": {_join(texts)}}}'
    rows = _num_rows(outputs)
    writers = {name: _writer(name, outputs[name]) for name in names}
    predictions = (_join({name: _text(outputs[name][row], writers[name]) for name in names}) for row in range(rows))
    return f'{{"predictions": [{", ".join(predictions)}]}}'


def _num_rows(outputs: Mapping[str, Array]) -> int:
    rows = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information: ask in the column format, 'inputs'")
        if rows is not None and rows != len(array):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    if rows is None:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    return rows


def _join(texts: dict[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def _text(value: Any, write: _Writer) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return "[" + ", ".join(_text(inner, write) for inner in value) + "]"
    return write(value.item() if isinstance(value, np.ndarray) else value)


def _writer(name: str, array: Array) -> _Writer:
    kind = array.dtype.kind
    if kind in "OS":
        return _write_base64 if name.endswith(_BYTES_SUFFIX) else _write_string
    if kind == "f":
        return lambda value: format_decimal(array.dtype.type(value))
    if kind == "b":
        return lambda value: "true" if value else "false"
    if kind in "iu":
        return lambda value: str(int(value))
    raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype}")


def format_decimal(value: np.floating[Any]) -> str:
    """The shortest of %g and full precision that reads back as the same number, always recognisable as a decimal.

    >>> [format_decimal(np.float32(x)) for x in (0.2, 1 / 3, 7, 9e6, float("-inf"))]
    ['0.2', '0.333333343', '7.0', '9e+06', '-Infinity']
    """
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "-Infinity" if value < 0 else "Infinity"
    text = f"{float(value):g}"
    if type(value)(text) != value:
        text = f"{float(value):.{9 if value.dtype.itemsize <= 4 else 17}g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _write_string(value: bytes) -> str:
    try:
        return json.dumps(value.decode("utf-8"), ensure_ascii=False)
    except UnicodeDecodeError:
        return _write_base64(value)


def _write_base64(value: bytes) -> str:
    return json.dumps({"b64": base64.b64encode(value).decode("ascii")})
