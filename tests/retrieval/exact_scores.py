"""Scores of codes in integers and fractions: nothing is rounded before the end."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

# Every float16 is a multiple of this.
_STEP = Fraction(1, 2**24)


def whole_rows(codes):
    """`(rows, unit)`: Python integers, object [n, d], and the fraction that they count."""
    highest = 2**codes.num_bits - 1
    scale = _whole(np.broadcast_to(codes.scale, len(codes)))
    offset = _whole(np.zeros(len(codes)) if codes.offset is None else np.broadcast_to(codes.offset, len(codes)))
    levels = 2 * codes.unpack().astype(object) - highest
    return highest * offset[:, None] + scale[:, None] * levels, _STEP / highest


def exact_scores(users, items, row):
    """The products of row `row` of `users` with all `items`, fractions."""
    (queries, query_unit), (rows, unit) = whole_rows(users), whole_rows(items)
    return [Fraction(int(product)) * unit * query_unit for product in (rows * queries[row]).sum(axis=1)]


def exact_cosines(items, row, users=None):
    """The cosines of row `row` of `users` (None: of `items`) with all `items`, to 50 digits; 0 for a row of 0s."""
    queries, rows = whole_rows(items if users is None else users)[0], whole_rows(items)[0]
    squares = (rows * rows).sum(axis=1) * (queries[row] * queries[row]).sum()
    products = (rows * queries[row]).sum(axis=1)
    with localcontext(prec=50):
        return [Fraction(Decimal(a) / Decimal(b).sqrt()) if b else Fraction(0) for a, b in zip(products, squares)]


def rounded(value):
    """The float32 that is nearest to a fraction, the even one of two."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda x: (abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1))


def ranking(scores):
    """Rows, the highest score first, ties by the lower row."""
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))


def _whole(values):
    return np.array([int(Fraction(float(value)) / _STEP) for value in values], object)
