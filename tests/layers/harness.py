"""What every layer has to survive; a layer's own test file checks its maths.

`check_layer(layer, inputs)` is all that a test needs: JSON config round trip, eager = graph (= XLA), saved and reloaded
in a Keras model, mixed batch sizes, weights counted, one `fit` step.
"""

import json

import numpy as np
import tensorflow as tf
import tf_keras


def check_layer(
    layer, inputs, tmp_path, *, num_weights, xla=True, batched=True, saved_gradients=True, rtol=1e-5, atol=1e-6
):
    """Runs every check; `inputs` is a tensor or a tuple of tensors and `tf.SparseTensor`s, the last one floating.

    Args:
      layer: Not yet built, or built for these inputs.
      inputs: What `layer` is called with.
      tmp_path: For the SavedModel.
      num_weights: How many variables the layer must have once it is built.
      xla: Whether XLA has the layer's ops.
      batched: Whether rows of the inputs are independent of each other, so that a part of them can be passed.
      saved_gradients: Whether the SavedModel is to hold custom gradients (False: for inference only).
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
    check_keras_model(layer, inputs, expected, same, tmp_path / "model", saved_gradients)


def check_config_round_trip(layer, inputs, same):
    """The layer made again from its config, through JSON text and its registered name, does the same."""
    text = json.dumps(tf_keras.layers.serialize(layer))
    again = tf_keras.layers.deserialize(json.loads(text))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    again(inputs)
    again.set_weights(layer.get_weights())
    same(again(inputs))


def check_batch_sizes(layer, inputs, expected, rtol, atol):
    """One traced function serves any number of rows, each as in the whole batch."""
    several = tf.nest.flatten(inputs)
    function = tf.function(
        lambda *parts: layer(tf.nest.pack_sequence_as(inputs, parts)),
        input_signature=[tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in several],
    )
    for size in (1, len(expected), max(1, len(expected) - 1)):
        np.testing.assert_allclose(function(*(part[:size] for part in several)), expected[:size], rtol=rtol, atol=atol)


def check_keras_model(layer, inputs, expected, same, path, saved_gradients):
    """As part of a Keras model: predicted, saved, reloaded without the class, and trained for a step."""
    symbols = tf.nest.map_structure(_symbol, inputs)
    scale = tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="after")
    outputs = layer(symbols)
    model = tf_keras.Model(tf.nest.flatten(symbols), outputs)
    flat = tf.nest.flatten(inputs)
    same(model(flat))
    model.save(path, options=tf.saved_model.SaveOptions(experimental_custom_gradients=saved_gradients))
    same(tf.saved_model.load(str(path))(flat, training=False))
    trained = tf_keras.Model(tf.nest.flatten(symbols), scale(outputs))
    trained.compile("sgd", "mse")
    whole_batch = tf.data.Dataset.from_tensors((tuple(flat), tf.zeros([len(expected), 1])))
    before = [weight.numpy() for weight in trained.trainable_weights]
    history = trained.fit(whole_batch, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    changed = [not np.array_equal(old, new.numpy()) for old, new in zip(before, trained.trainable_weights)]
    assert all(changed), [weight.name for weight, moved in zip(trained.trainable_weights, changed) if not moved]


def _symbol(value):
    sparse = isinstance(value, tf.SparseTensor)
    return tf_keras.Input(batch_shape=[None, *value.shape[1:]], dtype=value.dtype, sparse=sparse)
