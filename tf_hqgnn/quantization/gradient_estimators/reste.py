"""ReSTE: the slope of a root, which comes closer to a step the longer it trains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator

if TYPE_CHECKING:
    import tensorflow as tf

# Nearer to a threshold than this, the slope of the root, which is infinite at it, is replaced by its mean up to here.
_FLAT = 0.1
_LAST_POWER = 3.0


@ESTIMATORS.register("reste")
class ReSTE(Estimator):
    """The sign is taken for `f(z) = sign(z) |z|^(1/o)`, whose slope is `|z|^((1 - o) / o) / o`.

    At 1 bit, z is `2 x_n - 1`. With more bits it is the same between any two neighbouring levels: z runs from -1 at the
    lower one to 1 at the upper one, and is 0 halfway. Within `|z| < 0.1` the slope is the mean of the slope there,
    `0.1^(1/o) / 0.1`. The mean slope from one level to the next is 1 for every o, as that of `ste`.

    The power o is `1 + delta`. It grows from 1, where this is `ste`, to 3:

        o = 1 + 2 (1 - cos(pi/2 progress))

    Reference: Wu et al., ICCV 2023; slope, flat part, schedule and last power are those of the authors' code. More than
    1 bit is ours. The code's bound on |z|, 1.5, is never reached here, since values beyond the
    range have no gradient.

    Example:
      >>> ReSTE().delta_at(0.0, progress=0.0), ReSTE().delta_at(0.0, progress=1.0)
      (0.0, 2.0)
    """

    follows_progress: ClassVar[bool] = True

    def max_delta(self, num_bits: int) -> float:
        """9 for all numbers of bits: four fifths of the step from one level to the next are then within `|z| < 0.1`."""
        del num_bits
        return 9.0

    def delta_at(self, delta: float, progress: float) -> float:
        """See `Estimator`: grows from 0, at first slowly; no delta of the settings counts."""
        del delta
        last = _LAST_POWER - 1.0
        return last if progress >= 1 else last * (1.0 - math.cos(0.5 * math.pi * progress))

    def slope(self, g: tf.Tensor, x_n: tf.Tensor, x_q: tf.Tensor, delta: tf.Tensor, num_bits: int) -> tf.Tensor:
        """See `Estimator`."""
        import tensorflow as tf

        del g, x_q
        steps = float(2**num_bits - 1)
        # The last interval is closed: 1 is its upper level, not the lower one of another.
        lower = tf.minimum(tf.floor(x_n * steps), steps - 1.0)
        distance = tf.abs(2.0 * (x_n * steps - lower) - 1.0)
        root = 1.0 / (1.0 + delta)
        near = tf.pow(tf.constant(_FLAT, x_n.dtype), root - 1.0)
        return tf.where(distance < _FLAT, near, root * tf.pow(tf.maximum(distance, _FLAT), root - 1.0))
