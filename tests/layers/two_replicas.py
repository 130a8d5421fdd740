"""A step on two replicas moves the weights as one on a single device does; prints the names of the layers."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tf_hqgnn  # noqa: F401, I001
import numpy as np
import tensorflow as tf
from layer_cases import CASES, Scorer

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
nodes, targets = np.array([5, 0, 5, 7]), np.ones([4, 1], np.float32)
for name, (make, _) in CASES.items():
    trained = []
    for scope in (strategy, tf.distribute.get_strategy()):
        with scope.scope():
            layer = make()
            if name == "ngcf":
                # Replicas drop messages of their own.
                layer.message_dropout = 0.0
            model = Scorer(layer)
            model.compile("sgd", "mse")
        model.fit(nodes, targets, batch_size=4, verbose=0)
        trained.append(model.get_weights())
    for one, other in zip(*trained):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    print(name)
