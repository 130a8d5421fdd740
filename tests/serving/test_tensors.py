import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.core.framework import tensor_pb2, types_pb2

from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TYPES = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_numbers_survive_and_tensorflow_reads_the_same(data):
    dtype = data.draw(st.sampled_from(TYPES))
    array = data.draw(hnp.arrays(dtype, SHAPES))
    proto = tensor_pb2.TensorProto()
    encode_tensor(array, proto)
    np.testing.assert_array_equal(decode_tensor("x", proto), array)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    assert decode_tensor("x", proto).dtype == array.dtype
    np.testing.assert_array_equal(decode_tensor("x", tf.make_tensor_proto(array)), array)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=5), fill=st.nothing()))
def test_strings_survive_with_any_bytes(array):
    proto = tensor_pb2.TensorProto()
    encode_tensor(array, proto)
    decoded = decode_tensor("x", proto)
    assert decoded.shape == array.shape
    assert decoded.ravel().tolist() == array.ravel().tolist()


def test_answers_are_in_typed_fields_not_in_tensor_content():
    proto = tensor_pb2.TensorProto()
    encode_tensor(np.array([1.0, 2.0], np.float32), proto)
    assert not proto.tensor_content
    assert list(proto.float_val) == [1, 2]


def _proto(shape, **fields):
    proto = tensor_pb2.TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (_proto([2, 2], dtype=types_pb2.DT_FLOAT, float_val=[1, 2, 3, 4, 5]), "tensor parsing error: x: "),
        (_proto([3], dtype=types_pb2.DT_FLOAT, tensor_content=b"12345"), "tensor parsing error: x: "),
        (_proto([1], dtype=types_pb2.DT_RESOURCE), "tensor parsing error: x: "),
        (_proto([], dtype=99), "tensor parsing error: x: "),
        (_proto([-1], dtype=types_pb2.DT_FLOAT), "its shape must be fully known, got \\[-1\\]"),
        (
            _proto([2**20, 2**20], dtype=types_pb2.DT_FLOAT, float_val=[0]),
            'rows of input "x": got 1048576, this server',
        ),
        (
            _proto([4096, 4096], dtype=types_pb2.DT_FLOAT, float_val=[0]),
            'values of input "x": got 16777216, this server',
        ),
        (_proto([1] * 33, dtype=types_pb2.DT_FLOAT, float_val=[0]), 'dimensions of input "x": got 33, this server'),
        (
            _proto([4096], dtype=types_pb2.DT_STRING, string_val=[b"x" * 8192]),
            "4096 strings of 8192 bytes are more than",
        ),
    ],
)
def test_malformed_tensors_are_refused(proto, message):
    with pytest.raises(ServingError, match=message) as caught:
        decode_tensor("x", proto)
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_a_small_message_fills_no_memory():
    """131 bytes with one value and the shape [4096, 4096] took a gigabyte."""
    proto = _proto([4096, 4096], dtype=types_pb2.DT_STRING, string_val=[b"x" * 80])
    tracemalloc.start()
    with pytest.raises(ServingError, match="values of input"):
        decode_tensor("x", proto)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
