import numpy as np
import pytest

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.core.protobuf import meta_graph_pb2

from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.signature import Signature


def definition(defaults=()):
    result = meta_graph_pb2.SignatureDef()
    for name, dtype, shape in (("a", tf.float32, [None]), ("n", tf.int32, [])):
        result.inputs[name].name = f"{name}:0"
        result.inputs[name].dtype = dtype.as_datatype_enum
        result.inputs[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    result.outputs["sum"].name = result.outputs["text"].name = "x"
    for name, value in defaults:
        result.defaults[name].CopyFrom(tf.make_tensor_proto(value))
    return result


def call(a, n):
    """The outputs in the order of their names: sum, text."""
    return [a + n.astype(np.float32), b"t\0"]


A = np.array([1, 2], np.float32)
N = np.array(3, np.int32)


def test_runs_and_filters():
    signature = Signature(definition(), call)
    outputs = signature({"a": A, "n": N})
    np.testing.assert_array_equal(outputs["sum"], [4, 5])
    assert outputs["text"].item() == b"t\0"
    assert list(signature({"a": A, "n": N}, ["text"])) == ["text"]


def test_a_default_stands_in_for_a_missing_input():
    signature = Signature(definition([("n", np.int32(10))]), call)
    np.testing.assert_array_equal(signature({"a": A})["sum"], [11, 12])
    with pytest.raises(ServingError, match=r"Signature input alias: a\(feed name: a:0\) not found in request"):
        signature({"n": N})


@pytest.mark.parametrize(
    ("inputs", "output_filter", "message"),
    [
        ({"a": A}, (), r"input size does not match signature: 1!=2 len\({a}\) != len\({a,n}\).* required: {n}"),
        ({"a": A, "n": N, "x": N}, (), r"Sent extra: {x}"),
        ({"a": A, "x": N}, (), r"alias not found in signature: x. Inputs expected to be in the set {a,n}"),
        ({"a": A.astype(np.float64), "n": N}, (), r'arg\[0\] to be float32 but float64 is provided \(input "a"\)'),
        ({"a": A, "n": np.array("3", object)}, (), r"arg\[1\] to be int32 but string is provided"),
        ({"a": A[None], "n": N}, (), r'input "a" has shape \[1,2\], the signature expects \[\?\]'),
        ({"a": A, "n": N[None]}, (), r'input "n" has shape \[1\], the signature expects \[\]'),
        ({"a": A, "n": N}, ["mean"], r"output tensor alias not found in signature: mean .* {sum,text}"),
        ({"a": A, "n": N}, ["sum", "sum"], r"duplicate output tensor alias: sum"),
    ],
)
def test_requests_that_do_not_fit_are_invalid_arguments(inputs, output_filter, message):
    with pytest.raises(ServingError, match=message) as caught:
        Signature(definition(), call)(inputs, output_filter)
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_an_op_that_fails_keeps_its_code():
    def fail(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "too much [[node x]]")

    with pytest.raises(ServingError, match=r"^too much$") as caught:
        Signature(definition(), fail)({"a": A, "n": N})
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    assert caught.value.http_status == 429
