"""What the tests of layers share."""

import pytest
from tensorflow.python.autograph.core import config
from tensorflow.python.autograph.core.config_lib import DoNotConvert


@pytest.fixture(scope="package", autouse=True)
def keras_as_it_is():
    """Keras' own code isn't converted by AutoGraph, which takes a third of these tests' time.

    TensorFlow's list of what is left as it is has `keras`, but not `tf_keras`. Layers and losses are converted as ever.
    """
    rules = config.CONVERSION_RULES
    config.CONVERSION_RULES = (DoNotConvert("tf_keras"), *rules)
    yield
    config.CONVERSION_RULES = rules
