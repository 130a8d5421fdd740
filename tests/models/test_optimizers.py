"""LazyAdam: Adam where every row is in the batch, still where none is."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.models.optimizers import LazyAdam


def run(optimizer, gradients, rows=None):
    variable = tf.Variable(np.ones((5, 2), np.float32))
    for gradient in gradients:
        sparse = gradient if rows is None else tf.IndexedSlices(gradient, tf.constant(rows), dense_shape=[5, 2])
        optimizer.apply_gradients([(sparse, variable)])
    return variable.numpy()


def gradients(n, size):
    generator = np.random.default_rng(0)
    return [tf.constant(generator.normal(size=(size, 2)), tf.float32) for _ in range(n)]


def test_dense_gradients_are_adams():
    expected = run(tf_keras.optimizers.Adam(0.1, epsilon=1e-8), gradients(5, 5))
    np.testing.assert_allclose(run(LazyAdam(0.1), gradients(5, 5)), expected, rtol=1e-5)


def test_a_sparse_gradient_of_all_rows_is_a_dense_one():
    dense = run(LazyAdam(0.1), gradients(5, 5))
    np.testing.assert_allclose(run(LazyAdam(0.1), gradients(5, 5), rows=[0, 1, 2, 3, 4]), dense, rtol=1e-5)


def test_rows_outside_the_batch_stay():
    values = run(LazyAdam(0.1), gradients(3, 2), rows=[1, 3])
    np.testing.assert_array_equal(values[[0, 2, 4]], 1.0)
    assert np.all(values[[1, 3]] != 1.0)


def test_a_sparse_step_neither_reads_nor_writes_a_whole_table():
    optimizer, table = LazyAdam(0.1), tf.Variable(np.ones((5, 2), np.float32))
    optimizer.build([table])

    @tf.function
    def step(gradient):
        optimizer.apply_gradients([(tf.IndexedSlices(gradient, tf.constant([1, 3]), dense_shape=[5, 2]), table)])

    graph = step.get_concrete_function(tf.TensorSpec([2, 2])).graph
    tables = {handle.ref() for variable, handle in graph.captures if variable is table.handle}
    tables |= {
        handle.ref() for moment, handle in graph.captures for m in optimizer.moments_of(table) if moment is m.handle
    }
    assert len(tables) == 3
    touching = {op.type for op in graph.get_operations() if any(value.ref() in tables for value in op.inputs)}
    assert touching == {"ResourceGather", "ResourceScatterUpdate", "ResourceScatterSub"}


def test_repeated_rows_are_summed():
    gradient = gradients(1, 2)
    summed = [tf.reduce_sum(gradient[0], axis=0, keepdims=True)]
    np.testing.assert_allclose(
        run(LazyAdam(0.1), gradient, rows=[2, 2]), run(LazyAdam(0.1), summed, rows=[2]), rtol=1e-6
    )


def test_a_factor_slows_the_variables_of_its_name():
    plain, slowed = LazyAdam(0.1), LazyAdam(0.1, factors={"slow": 0.25})
    variables = [tf.Variable([1.0], name=name) for name in ("layer/slow", "slow_not", "layer/slow", "slow_not")]
    for optimizer, pair in ((plain, variables[:2]), (slowed, variables[2:])):
        optimizer.apply_gradients([(tf.constant([2.0]), variable) for variable in pair])
    steps = [1.0 - float(variable.numpy()[0]) for variable in variables]
    assert steps[2] == pytest.approx(0.25 * steps[0], rel=1e-4)
    assert steps[3] == steps[1] == steps[0]


def test_config_round_trip():
    optimizer = LazyAdam(0.25, beta_1=0.8, beta_2=0.95, epsilon=1e-5, factors={"beta": 0.5})
    config = tf_keras.optimizers.serialize(optimizer)
    again = tf_keras.optimizers.deserialize(config)
    assert isinstance(again, LazyAdam)
    assert again.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(run(optimizer, gradients(2, 5)), run(again, gradients(2, 5)))


@pytest.mark.parametrize("rows", [[2, 2], [4, 1], [0, 3]])
def test_fixed_shapes_change_no_step(rows):
    given = gradients(3, 2)
    expected = run(LazyAdam(0.1), given, rows)
    np.testing.assert_allclose(run(LazyAdam(0.1, fixed_shapes=True), given, rows), expected, rtol=1e-6)


def test_xla_compiles_a_step_of_fixed_shapes():
    given, expected = gradients(3, 4), None
    for jit_compile in (False, True):
        optimizer, table = LazyAdam(0.1, fixed_shapes=True), tf.Variable(np.ones((5, 2), np.float32))
        optimizer.build([table])

        @tf.function(jit_compile=jit_compile)
        def step(gradient, optimizer=optimizer, table=table):
            optimizer.apply_gradients([(tf.IndexedSlices(gradient, tf.constant([1, 3, 1, 4]), [5, 2]), table)])

        for gradient in given:
            step(gradient)
        expected = table.numpy() if expected is None else expected
        np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5)
