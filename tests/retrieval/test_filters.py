import numpy as np
import tensorflow as tf
from export_oracle import to_csr
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.retrieval.filters import SeenItems, block_any, block_listed

N = 7
ITEMS = st.integers(0, N - 1)


@settings(max_examples=40, deadline=None)
@given(
    seen=st.lists(st.sets(ITEMS), min_size=1, max_size=5),
    batch=st.lists(st.tuples(st.integers(-1, 4), st.lists(st.integers(-1, N - 1), min_size=4, max_size=4)), max_size=5),
)
def test_blocked_pairs_are_the_union_of_seen_and_listed(seen, batch):
    seen = [sorted(items) for items in seen]
    users = [min(user, len(seen) - 1) for user, _ in batch]
    listed = np.array([items for _, items in batch], np.int64).reshape(len(batch), 4)
    expected = [
        (set(seen[user]) if user >= 0 else set()) | set(items.tolist()) - {-1} for user, items in zip(users, listed)
    ]

    seen_items = SeenItems(*to_csr(seen), num_items=N).blocked(tf.constant(users, tf.int64))
    blocked = block_any(seen_items, block_listed(tf.constant(listed), N))

    everything = tf.tile(tf.range(N)[None], [len(batch), 1])
    contains = blocked.contains(everything).numpy()
    assert [set(np.flatnonzero(row)) for row in contains] == expected
    masked = blocked.mask_all(tf.ones([len(batch), N])).numpy()
    np.testing.assert_array_equal(masked, np.where(contains, -np.inf, 1.0))
    assert all(count >= len(items) for count, items in zip(blocked.counts.numpy(), expected))


def test_candidates_may_repeat_and_come_in_any_order():
    blocked = block_listed(tf.constant([[5, 1], [-1, 0]], tf.int64), N)
    candidates = tf.constant([[5, 0, 1, 5], [0, 5, 0, 6]])
    assert blocked.contains(candidates).numpy().tolist() == [[True, False, True, True], [True, False, True, False]]


def test_keys_beyond_int32():
    """A batch times a large catalogue overflows int32."""
    num_items = 2**31 - 1
    blocked = block_listed(tf.constant([[-1], [-1], [num_items - 1]], tf.int64), num_items)
    last = tf.fill([3, 1], num_items - 1)
    assert blocked.contains(last).numpy().tolist() == [[False], [False], [True]]
