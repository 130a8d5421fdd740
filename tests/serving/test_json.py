import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

import tf_hqgnn  # noqa: F401
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.json_request import decode_inputs, parse_body
from tf_hqgnn.serving.json_response import encode_outputs, format_decimal

TYPES = {"s": "DT_STRING", "f": "DT_FLOAT", "d": "DT_DOUBLE", "i": "DT_INT32", "l": "DT_INT64", "b": "DT_BOOL"}


def inputs(*names):
    return {name: meta_graph_pb2.TensorInfo(dtype=types_pb2.DataType.Value(TYPES[name])) for name in names}


def decode(document, *names):
    return decode_inputs(document, inputs(*names))[0]


def test_rows_of_one_input_are_values_and_of_several_are_objects():
    assert decode({"instances": ["a", {"b64": base64.b64encode(b"\xff").decode()}]}, "s")["s"].tolist() == [
        b"a",
        b"\xff",
    ]
    assert decode({"instances": [{"s": "a"}, {"s": "b"}]}, "s")["s"].tolist() == [b"a", b"b"]
    rows = decode({"instances": [{"s": "é", "f": [1, 2.5]}, {"s": "b", "f": [3, 4]}]}, "s", "f")
    assert rows["s"].tolist() == ["é".encode(), b"b"]
    np.testing.assert_array_equal(rows["f"], np.array([[1, 2.5], [3, 4]], np.float32))
    assert rows["f"].dtype == np.float32


def test_columns_are_whole_tensors_and_scalars_stay_scalars():
    assert decode({"inputs": {"s": [["a"], ["b"]], "i": 5, "unused": 1}}, "s", "i")["s"].shape == (2, 1)
    assert decode({"inputs": {"s": ["a"], "i": 5}}, "s", "i")["i"] == np.array(5, np.int32)
    assert decode({"inputs": ["a", "b"]}, "s")["s"].tolist() == [b"a", b"b"]
    assert decode({"inputs": {"b64": "YQ=="}}, "s")["s"].item() == b"a"
    assert decode({"inputs": [[], []]}, "s")["s"].shape == (2, 0)
    assert decode({"inputs": [True, False]}, "b")["b"].tolist() == [True, False]
    assert decode({"inputs": [2**53]}, "l")["l"].tolist() == [2**53]


def test_row_flag_tells_the_format():
    assert decode_inputs({"instances": ["a"]}, inputs("s"))[1] is True
    assert decode_inputs({"inputs": ["a"]}, inputs("s"))[1] is False


@pytest.mark.parametrize(
    ("document", "names", "message"),
    [
        ({}, "s", "Missing 'inputs' or 'instances' key"),
        ({"inputs": ["a"], "instances": ["a"]}, "s", "expecting only one of 'inputs' or 'instances'"),
        ({"instances": "a"}, "s", "Expecting 'instances' to be a list/array"),
        ({"instances": []}, "s", "No values in 'instances' array"),
        ({"instances": ["a"]}, "sf", "instances is a plain list, but expecting list of objects"),
        ({"instances": [{"s": "a", "f": 1}, 3]}, "sf", "Expecting object but got list at item 1"),
        ({"instances": ["a", {"s": "a"}]}, "s", "Expecting value/list but got object at item 1"),
        ({"instances": [{"s": "a"}]}, "sf", "keys must be equal to: f,s"),
        ({"instances": [{"x": "a"}]}, "s", "keys must be equal to: s"),
        ({"instances": [[1, 2], [1]]}, "f", "element: 1 .* Expecting shape \\[2\\] but got: \\[1\\]"),
        ({"inputs": ["a"]}, "sf", "inputs is a plain value/list"),
        ({"inputs": {"s": ["a"]}}, "sf", "Missing named input: f in 'inputs' object"),
        ({"inputs": [[1], 2]}, "f", "JSON Value: 2 found at incorrect level: 2"),
        ({"inputs": [1, [2]]}, "f", "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": [[1], [2, 3]]}, "f", "unexpected size: 2 at level: 1 expected size: 1"),
        ({"inputs": [1]}, "s", "Type: Number is not of expected type: string"),
        ({"inputs": [None]}, "f", "Type: Null is not of expected type: float32"),
        ({"inputs": [True]}, "i", "Type: True is not of expected type: int32"),
        ({"inputs": [1.5]}, "i", "Type: Number is not of expected type: int32"),
        ({"inputs": [2**31]}, "i", "is not of expected type: int32"),
        ({"inputs": ["1"]}, "f", "Type: String is not of expected type: float32"),
        ({"inputs": [1]}, "b", "is not of expected type: bool"),
        ({"inputs": [2**24]}, "f", "Cannot convert JSON value: 16777216 to float32 without loss of precision"),
        ({"inputs": [1e39]}, "f", "to float32 without loss of precision"),
        ({"inputs": [{"b64": "?"}]}, "s", "Unable to base64 decode"),
        ({"inputs": [{"b64": 1}]}, "s", "not formatted correctly for base64 data"),
        ({"inputs": ["\ud800"]}, "s", "is not valid Unicode"),
    ],
)
def test_wrong_values_are_refused(document, names, message):
    with pytest.raises(ServingError, match=message) as caught:
        decode(document, *names)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error"),
        (b'{"inputs": "\xff"}', "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"[1]", "Is not object"),
        (b'{"signature_name": 3}', "'signature_name' key must be a string value"),
    ],
)
def test_bodies_that_are_no_request_are_refused(body, message):
    with pytest.raises(ServingError, match=message):
        parse_body(body)


def test_not_finite_numbers_are_read():
    document = parse_body(b'{"inputs": [NaN, -Infinity, Infinity]}')
    np.testing.assert_array_equal(decode(document, "f")["f"], [np.nan, -np.inf, np.inf])


def test_answers_by_row_and_by_column():
    outputs = {"name": np.array([b"a", b"\xff"], object), "score": np.array([[1, np.nan], [2, -np.inf]], np.float32)}
    assert encode_outputs(outputs, by_row=True) == (
        '{"predictions": [{"name": "a", "score": [1.0, NaN]}, {"name": {"b64": "/w=="}, "score": [2.0, -Infinity]}]}'
    )
    assert encode_outputs(outputs, by_row=False) == (
        '{"outputs": {"name": ["a", {"b64": "/w=="}], "score": [[1.0, NaN], [2.0, -Infinity]]}}'
    )


def test_a_lone_output_comes_without_its_name():
    assert encode_outputs({"n": np.array([[1], [2]])}, by_row=True) == '{"predictions": [[1], [2]]}'
    assert encode_outputs({"n": np.array(True)}, by_row=False) == '{"outputs": true}'


def test_outputs_whose_name_ends_in_bytes_are_base64():
    assert encode_outputs({"x_bytes": np.array([b"a"], object)}, by_row=False) == '{"outputs": [{"b64": "YQ=="}]}'


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"n": np.array(1)}, "Tensor name: n has no shape information"),
        ({"m": np.array([1]), "n": np.array([1, 2])}, "n has inconsistent batch size: 2 expecting: 1"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"n": np.array([1j])}, "Failed to write JSON value for tensor type: complex128"),
    ],
)
def test_answers_that_have_no_row_form_are_refused(outputs, message):
    with pytest.raises(ServingError, match=message):
        encode_outputs(outputs, by_row=True)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32), st.floats())
def test_decimals_read_back_as_the_same_number(single, double):
    for value in (np.float32(single), np.float64(double)):
        text = format_decimal(value)
        np.testing.assert_equal(type(value)(json.loads(text)), value)
        assert isinstance(json.loads(text), float)
