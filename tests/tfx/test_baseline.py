"""The last blessed model on today's test split; models are stand-ins that answer in a fixed order."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx import baseline
from tf_hqgnn.tfx.baseline import Rankings, differences, rank_baseline
from tf_hqgnn.types import Interactions

USERS = np.array(["u", "v", "w"], object)
ITEMS = np.array(["a", "b", "c", "d", "e"], object)


def pairs(users, items):
    return Interactions(np.array(users, np.int32), np.array(items, np.int32))


@pytest.fixture
def today():
    """One user took a, the last one e; to be tested are b and c of the first, d of the second."""
    return SplitDataset(
        USERS, ITEMS, train=pairs([0, 2], [0, 4]), valid=pairs([], []), test=pairs([0, 0, 1], [1, 2, 3])
    )


@pytest.fixture
def world(tmp_path, monkeypatch):
    """`write(train)` puts an old model into the store that learnt from pairs of ids; requests are kept in `asked`."""
    answers, learnt, asked = {}, {}, []

    def load(path):
        def recommend(user_id, k, exclude_item_id, category):  # noqa: ARG001  The signature's.
            rows = []
            for user, excluded in zip(user_id.numpy(), exclude_item_id.numpy()):
                wishes = {item.decode() for item in excluded} - {""}
                asked.append((path.name, user.decode(), wishes))
                # As a served model does.
                wishes = wishes | {item for one, item in learnt.get(path.name, ()) if one == user.decode()}
                rows.append([item for item in answers[path.name] if item not in wishes][: int(k)])
            padded = [row + [""] * (int(k) - len(row)) for row in rows]
            return {"item_id": tf.constant(padded), "num_valid": tf.constant([len(row) for row in rows])}

        return None, recommend

    monkeypatch.setattr(baseline, "load_recommend", load)

    class World:
        def __init__(self):
            self.pointer = {"models": {"hqgnn": str(tmp_path / "old")}, "state": str(tmp_path / "state")}
            self.answers, self.learnt, self.asked = answers, learnt, asked

        def write(self, train, users=("u", "v", "x"), items=("a", "b", "c", "d", "z"), available=None):
            learnt["old"] = train
            row = [{name: number for number, name in enumerate(ids)} for ids in (users, items)]
            rows = pairs([row[0][user] for user, _ in train], [row[1][item] for _, item in train])
            ids = (np.array(one, object) for one in (users, items))
            data = SplitDataset(*ids, train=rows, valid=pairs([], []), test=pairs([], []))
            data = data if available is None else replace(data, available=np.array(available))
            tables = (np.zeros((len(one), 2), np.float32) for one in (users, items))
            TrainedState(data, *tables).save(tmp_path / "state")
            (tmp_path / "old").mkdir()
            (tmp_path / "old" / "saved_model.pb").touch()

    return World()


def rankings(top):
    """Of the candidate, for u and v."""
    return Rankings(np.array([0, 1]), (np.array([0, 2, 3]), np.array([1, 2, 3])), np.array(top, np.int32))


def test_the_old_model_is_asked_about_todays_users_without_their_items(world, today, tmp_path):
    world.write([("u", "a")])
    world.answers["old"] = ["z", "c", "b", "d", "a"]
    found, note = rank_baseline(world.pointer, today, tmp_path / "new", rankings([[1, 2, 3], [3, 1, 2]]), 8)
    # z has dropped out of today's catalogue; it takes its place all the same.
    assert found.baseline.tolist() == [[-1, 2, 1], [-1, 2, 1]]
    assert found.candidate.tolist() == [[1, 2, 3], [3, 1, 2]]
    assert found.relevant[1].tolist() == [1, 2, 3]
    # What it was trained on it leaves out by itself.
    assert world.asked == [("old", "u", set()), ("old", "v", set())]
    assert note == "re-evaluated on today's test split, 2 users"


def test_what_the_old_model_learnt_from_counts_for_neither(world, today, tmp_path):
    # It trained on u's b, a test interaction of today, and on all of v's.
    world.write([("u", "b"), ("v", "d"), ("x", "a")])
    world.answers |= {"old": ["c", "b", "d", "a"], "new": ["b", "a", "d", "e", "c"]}
    world.learnt["new"] = [("u", "a")]
    found, note = rank_baseline(world.pointer, today, tmp_path / "new", rankings([[1, 3, 4], [3, 1, 2]]), 8)
    assert found.users.tolist() == [0]
    assert found.relevant[1].tolist() == [2]
    # The candidate's answer b would have taken a place; it is asked again without it.
    assert found.candidate.tolist() == [[3, 4, 2]]
    assert found.baseline.tolist() == [[2, 3, -1]]
    assert world.asked == [("new", "u", {"b"}), ("old", "u", {"a"})]
    assert note.endswith("1 users; 2 test interactions that it learnt from are left out")


def test_what_one_of_the_models_can_not_return_counts_for_neither(world, today, tmp_path):
    # b is sold out today, which the old model doesn't know; c was sold out then, so the old model never returns it.
    today = replace(today, available=np.array([True, False, True, True, True]))
    world.write([("x", "a")], available=[True, True, False, True, True])
    world.answers |= {"old": ["b", "a", "d"], "new": ["c", "d", "e"]}
    world.learnt["new"] = [("u", "a")]
    tops = Rankings(np.array([0, 1]), (np.array([0, 1, 2]), np.array([2, 3])), np.array([[2, 3, 4]] * 2, np.int32))
    found, _ = rank_baseline(world.pointer, today, tmp_path / "new", tops, 8)
    # Only v's d is left: the candidate is asked again without c, the old model without b.
    assert (found.users.tolist(), found.relevant[1].tolist()) == ([1], [3])
    assert world.asked == [("new", "v", {"c"}), ("old", "v", {"b"})]
    assert found.candidate.tolist() == [[3, 4, -1]]
    assert found.baseline.tolist() == [[0, 3, -1]]


def test_a_model_that_has_learnt_from_everything_can_not_be_compared(world, today, tmp_path):
    world.write([("u", "b"), ("u", "c"), ("v", "d")])
    found, note = rank_baseline(world.pointer, today, tmp_path / "new", rankings([[1], [3]]), 8)
    assert found is None
    assert note == "the last blessed model learnt from, or can't return, every interaction of today's test split"


def test_a_model_that_is_gone_can_not_be_compared(world, today, tmp_path):
    found, note = rank_baseline(world.pointer, today, tmp_path, rankings([[1], [3]]), 8)
    assert found is None
    assert note == f"the last blessed model is no longer at {tmp_path / 'old'}"
    world.write([])
    for pointer in ({"models": world.pointer["models"]}, world.pointer | {"state": str(tmp_path / "no")}):
        found, note = rank_baseline(pointer, today, tmp_path, rankings([[1], [3]]), 8)
        assert found is None
        assert note == "the model store doesn't say what the last blessed model learnt from"


def test_a_model_that_can_not_be_loaded_can_not_be_compared(world, today, tmp_path, monkeypatch):
    def fail(_path):
        raise ValueError("no signature")

    world.write([])
    monkeypatch.setattr(baseline, "load_recommend", fail)
    found, note = rank_baseline(world.pointer, today, tmp_path, rankings([[1], [3]]), 8)
    assert found is None
    assert note == "the last blessed model can't be loaded: no signature"


def test_the_differences_are_those_of_each_users_own_ranking(today):
    both = Rankings(
        np.array([0, 1]),
        (np.array([0, 1, 2]), np.array([1, 3])),
        np.array([[1, 2], [1, 2]]),
        np.array([[2, 1], [3, 1]]),
    )
    everyone, *slices = differences(both, today, np.array([1, 0, 0, 0, 1]), max_drop=0.5, max_slice_drop=0.25)
    second = 1 / np.log2(3)
    assert (everyone.ndcg, everyone.baseline_ndcg) == pytest.approx((0.5, (second + 1) / 2))
    excess = np.array([1 - 0.5 * second, -0.5])
    assert everyone.excess == pytest.approx(excess.mean())
    assert everyone.excess_error == pytest.approx(np.abs(excess - excess.mean())[0])
    assert everyone.recall == 0.5
    assert everyone.baseline_recall == 1
    # Of the two, v has no training interaction at all; both its items and u's have none. They are cold, and new.
    assert [one.num_users for one in slices] == [1, 2, 1, 2]
    assert slices[0].excess == pytest.approx(-0.75)
