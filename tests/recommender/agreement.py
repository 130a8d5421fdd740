"""What two recommenders must agree on."""

import pandas as pd

EVERYBODY = {"users": "all", "k": 20}


def assert_same(one, other):
    """Asserts that they answer alike, ids, order and scores."""
    pd.testing.assert_frame_equal(one.recommend(**EVERYBODY), other.recommend(**EVERYBODY))
    pd.testing.assert_frame_equal(one.similar_items([1, 2, 50]), other.similar_items([1, 2, 50]))
