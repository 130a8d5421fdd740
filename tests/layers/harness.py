"""What every layer has to survive on its own; test_every_layer.py puts it into models.

`check_layer(layer, inputs)` is all that a test needs: JSON config round trip, eager = graph (= XLA), mixed batch sizes,
weights counted.
"""

import json

import numpy as np
import tensorflow as tf
import tf_keras


def check_layer(layer, inputs, *, num_weights, xla=True, batched=True, rtol=1e-5, atol=1e-6):
    """Runs every check; `inputs` is a floating tensor.

    Args:
      layer: Not yet built, or built for these inputs.
      inputs: What `layer` is called with.
      num_weights: How many variables the layer must have once it is built.
      xla: Whether XLA has the layer's ops.
      batched: Whether rows of the inputs are independent of each other, so that a part of them can be passed.
      rtol: Between the ways to run it.
      atol: Likewise.
    """
    expected = layer(inputs).numpy()

    def same(got):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)

    assert len(layer.weights) == num_weights
    check_config_round_trip(layer, inputs, same)
    same(tf.function(lambda x: layer(x))(inputs))
    if xla:
        same(tf.function(lambda x: layer(x), jit_compile=True)(inputs))
    if batched:
        check_batch_sizes(layer, inputs, expected, rtol, atol)


def check_config_round_trip(layer, inputs, same):
    """The layer made again from its config, through JSON text and its registered name, does the same."""
    text = json.dumps(tf_keras.layers.serialize(layer))
    again = tf_keras.layers.deserialize(json.loads(text))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    if not again.built:
        again.build(inputs.shape)
    again.set_weights(layer.get_weights())
    same(again(inputs))


def check_batch_sizes(layer, inputs, expected, rtol, atol):
    """One traced function serves any number of rows, each as in the whole batch."""
    function = tf.function(layer, input_signature=[tf.TensorSpec([None, *inputs.shape[1:]], inputs.dtype)])
    for size in (1, len(expected), max(1, len(expected) - 1)):
        np.testing.assert_allclose(function(inputs[:size]), expected[:size], rtol=rtol, atol=atol)
