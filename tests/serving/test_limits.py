import numpy as np
import pytest

from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.types import InputError

LIMITS = Limits(rows=4, list_length=3, values=9, k=10, answers=20)


def request(rows=1, width=1, k=1):
    return {"user_id": np.full(rows, b"a", object), "k": np.array(k, np.int32), "x": np.full((rows, width), b"")}


@pytest.mark.parametrize("sizes", [{"rows": 4, "k": 5}, {"width": 3}, {"k": 10}, {"rows": 0}, {"k": -1}])
def test_what_is_within_the_limits_passes(sizes):
    LIMITS.check(request(**sizes))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"rows": 5}, 'rows of input "user_id": got 5, this server allows 4: ask for less'),
        ({"width": 4}, 'values in a row of input "x": got 4, this server allows 3'),
        ({"k": 11}, "k: got 11, this server allows 10"),
        ({"rows": 4, "width": 3}, 'values of input "x": got 12, this server allows 9'),
        ({"rows": 3, "k": 7}, "rows times k: got 21, this server allows 20"),
    ],
)
def test_what_is_beyond_is_an_invalid_argument(sizes, message):
    with pytest.raises(ServingError, match=message) as caught:
        LIMITS.check(request(**sizes))
    assert (caught.value.code.name, caught.value.http_status) == ("INVALID_ARGUMENT", 400)


def test_a_limit_of_nothing_is_explained():
    with pytest.raises(InputError, match="limit k: expected at least 1, got 0"):
        Limits(k=0)
