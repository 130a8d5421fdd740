"""k-core and the splits: disjoint, exhaustive, of the right size, and independent of the rows' order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.data.interactions import InteractionTable
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.splits import (
    TEST,
    TRAIN,
    VALID,
    SplitDataset,
    divide,
    k_core,
    part_sizes,
    split_leave_last_out,
    split_random,
    split_temporal,
)
from tf_hqgnn.types import InputError, Interactions

PAIRS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 12)), min_size=1, max_size=60)
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.4])


def table_of(pairs, times=None):
    """A table of (user, item) numbers; `times` maps pairs to timestamps."""
    pairs = sorted((f"u{user}", f"i{item:02d}") for user, item in pairs)
    user_ids, user_index = np.unique(np.array([user for user, _ in pairs], object), return_inverse=True)
    item_ids, item_index = np.unique(np.array([item for _, item in pairs], object), return_inverse=True)
    timestamp = None
    if times is not None:
        timestamp = np.array([times[int(user[1:]), int(item[1:])] for user, item in pairs], np.float64)
    interactions = Interactions(user_index.astype(np.int32), item_index.astype(np.int32), timestamp)
    return InteractionTable(user_ids, item_ids, interactions, None, ReadReport(len(pairs), len(pairs), 0, 0))


def named(table, part, code):
    inner = table.interactions.take(np.flatnonzero(part == code))
    return set(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


def recbole_sizes(total, shares):
    """RecBole 1.2's `_calcu_split_ids`, one user at a time, from its description in PAPERS.md and its source."""
    count = [int(share * total) for share in shares]
    count[0] = total - sum(count[1:])
    for part in (2, 1):
        if count[0] <= 1:
            break
        if 0 < shares[part] * total < 1:
            count[part] += 1
            count[0] -= 1
    return count


@given(st.integers(1, 200), SHARES, SHARES)
def test_sizes_are_recboles(total, valid, test):
    sizes = part_sizes(np.array([total]), valid, test)
    assert [int(size[0]) for size in sizes] == recbole_sizes(total, [1 - valid - test, valid, test])


@settings(deadline=None)
@given(PAIRS, SHARES, SHARES, st.integers(0, 2**31))
def test_random(pairs, valid, test, seed):
    table = table_of(pairs)
    part = split_random(table, valid, test, seed)
    for user in range(len(table.user_ids)):
        parts = part[table.interactions.user_index == user]
        sizes = recbole_sizes(len(parts), [1 - valid - test, valid, test])
        assert [int((parts == code).sum()) for code in (TRAIN, VALID, TEST)] == sizes
    np.testing.assert_array_equal(part, split_random(table, valid, test, seed))
    # Another user's arrival doesn't move anybody's interactions between the parts.
    larger = table_of(pairs | {(9, 3), (9, 4), (9, 5)})
    again = split_random(larger, valid, test, seed)
    for code in (TRAIN, VALID, TEST):
        assert named(table, part, code) == {pair for pair in named(larger, again, code) if pair[0] != "u9"}


def test_random_is_random():
    table = table_of({(user, item) for user in range(400) for item in range(20)})
    parts = [split_random(table, 0.1, 0.1, seed) for seed in (1, 2)]
    held_out = np.bincount(table.interactions.item_index[parts[0] == TEST], minlength=20)
    # 800 test interactions over 20 items: 40 each, standard deviation 6.
    assert abs(held_out - 40).max() < 30
    # Two seeds agree on a test item as often as chance has it: 10%.
    assert 0.05 < ((parts[0] == TEST) & (parts[1] == TEST)).sum() / (parts[0] == TEST).sum() < 0.15


TIMED = st.dictionaries(st.tuples(st.integers(0, 7), st.integers(0, 12)), st.integers(0, 20), min_size=1, max_size=60)


@settings(deadline=None)
@given(TIMED, st.integers(0, 2**31))
def test_leave_last_out(times, seed):
    table = table_of(times, times)
    part = split_leave_last_out(table, seed)
    for user in range(len(table.user_ids)):
        mine = table.interactions.user_index == user
        time = {code: table.interactions.timestamp[mine & (part == code)].tolist() for code in (TRAIN, VALID, TEST)}
        number = int(mine.sum())
        assert [len(time[code]) for code in (TRAIN, VALID, TEST)] == {1: [1, 0, 0], 2: [1, 0, 1]}.get(
            number, [number - 2, 1, 1]
        )
        ordered = [max(time[code]) for code in (TRAIN, VALID, TEST) if time[code]]
        assert ordered == sorted(ordered)
    np.testing.assert_array_equal(part, split_leave_last_out(table, seed))


def test_ties_in_time_are_broken_by_the_seed():
    table = table_of({(0, item) for item in range(50)}, {(0, item): 5 for item in range(50)})
    last = {int(np.flatnonzero(split_leave_last_out(table, seed) == TEST)[0]) for seed in range(20)}
    assert len(last) > 10


@settings(deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(0, 7), st.integers(0, 12)), st.integers(0, 1000), min_size=1, max_size=60),
    SHARES,
    SHARES,
)
def test_temporal(times, valid, test):
    table = table_of(times, times)
    time = np.sort(table.interactions.timestamp)
    num_train = len(time) - int(valid * len(time)) - int(test * len(time))
    last_train, last_valid = time[num_train - 1], time[num_train + int(valid * len(time)) - 1]
    if (test > 0 and last_valid == time[-1]) or (valid > 0 and last_train == last_valid):
        with pytest.raises(InputError, match="no interaction is late enough"):
            split_temporal(table, valid, test)
        return
    part = split_temporal(table, valid, test)
    time = table.interactions.timestamp
    groups = [time[part == code] for code in (TRAIN, VALID, TEST)]
    assert sum(map(len, groups)) == len(table)
    filled = [group for group in groups if len(group)]
    assert all(before.max() < after.min() for before, after in pairwise(filled))
    assert len(groups[2]) <= int(test * len(table))
    if len(set(times.values())) == len(times):
        assert [len(groups[1]), len(groups[2])] == [int(valid * len(table)), int(test * len(table))]


def test_temporal_of_one_time():
    pairs = {(0, item) for item in range(10)}
    table = table_of(pairs, dict.fromkeys(pairs, 7))
    with pytest.raises(
        InputError, match=r"late enough for valid \(a share of 0\.1 of 10, 1 different times\); use random"
    ):
        split_temporal(table, 0.1, 0.1)


@pytest.mark.parametrize("split", [lambda t: split_leave_last_out(t, 0), lambda t: split_temporal(t, 0.1, 0.1)])
def test_time_is_needed(split):
    with pytest.raises(InputError, match="needs a column timestamp, which the interactions don't have; add it or use"):
        split(table_of({(0, 0)}))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.1), (0.1, 0.95)])
def test_shares_out_of_range(shares):
    with pytest.raises(InputError, match="leave nothing for training"):
        split_random(table_of({(0, 0)}), *shares, seed=1)


@settings(deadline=None)
@given(PAIRS, st.integers(0, 4))
def test_k_core(pairs, k):
    table = table_of(pairs)
    core = {(f"u{user}", f"i{item:02d}") for user, item in pairs}
    while True:
        smaller = {
            (user, item)
            for user, item in core
            if sum(user == other for other, _ in core) >= k and sum(item == other for _, other in core) >= k
        }
        if smaller == core:
            break
        core = smaller
    if not core:
        with pytest.raises(
            InputError, match=rf"k_core={k}: no interaction is left of {len(pairs)}; .*lower data\.k_core"
        ):
            k_core(table, k)
        return
    result = k_core(table, k)
    assert named(result, np.zeros(len(result)), 0) == core
    assert set(result.user_ids) == {user for user, _ in core}
    assert set(result.item_ids) == {item for _, item in core}
    assert (result.report.kept, result.report.filtered) == (len(core), len(pairs) - len(core))


def test_divide_and_a_saved_dataset(tmp_path):
    times = {(user, item): user + item for user in range(3) for item in range(4)}
    table = table_of(times, times)
    parts = divide(table.interactions, np.arange(12) % 3)
    titles = np.array(["A", "", "é", "D"], object)
    dataset = SplitDataset(
        table.user_ids, table.item_ids, *parts, titles, titles, np.array([1, 0, 1, 1], bool), table.report
    )
    dataset.save(tmp_path / "data")
    loaded = SplitDataset.load(tmp_path / "data")
    for name in ("user_ids", "item_ids", "titles", "categories", "available"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(dataset, name))
    for name in ("train", "valid", "test"):
        for column in ("user_index", "item_index", "timestamp"):
            saved, read = getattr(getattr(dataset, name), column), getattr(getattr(loaded, name), column)
            np.testing.assert_array_equal(read, saved)
            assert read.dtype == saved.dtype
    assert loaded.report == dataset.report
    assert (loaded.num_users, loaded.num_items) == (3, 4)
    (tmp_path / "data" / "valid.parquet").unlink()
    with pytest.raises(InputError, match=r"not a saved dataset .*valid\.parquet"):
        SplitDataset.load(tmp_path / "data")
    with pytest.raises(ValueError, match="titles: 1 values for 4 items"):
        SplitDataset(table.user_ids, table.item_ids, *parts, titles[:1])


def test_a_report_that_does_not_add_up():
    with pytest.raises(ValueError, match="don't add up"):
        ReadReport(10, 8, 1, 0)
