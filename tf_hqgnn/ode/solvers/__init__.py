"""Ways to solve dh/dt = A h + e, each registered by the name that settings give it. None imports TensorFlow at once."""
