"""Which settings of two trainings are worth showing side by side."""

import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.report.comparison import settings_that_matter


@pytest.mark.parametrize("same_data", [True, False])
def test_what_no_training_reads_is_left_out(same_data):
    ranges = {"model.spectral_power": {"low": 0.5, "high": 2.5}}
    first = Config().with_values({"data.path": "a.csv"})
    second = Config().with_values({"data.path": "b.csv", "tune.ranges": ranges, "loss.temperature": 0.3})
    expected = {"loss.temperature": (0.15, 0.3)}
    if not same_data:
        expected["data.path"] = ("a.csv", "b.csv")
    assert settings_that_matter(first, second, same_data) == expected
