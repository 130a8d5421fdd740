import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.graph.csr import select_rows
from tf_hqgnn.tfx.saved_model_ranking import load_recommend, overlap, rank_items

ITEMS = np.array(["a", "b", "c", "d"], object)


class Recommender:
    """Recommends the items of the catalogue in order; keeps the requests."""

    def __init__(self, items=ITEMS):
        self.items = items
        self.requests = []

    def __call__(self, user_id, k, exclude_item_id, category):
        assert category.numpy().tolist() == [b""] * len(user_id)
        users, excluded = user_id.numpy(), exclude_item_id.numpy()
        self.requests.append((users.tolist(), excluded.tolist()))
        answers = [[item for item in self.items if item.encode() not in row][: int(k)] for row in excluded]
        padded = [answer + [""] * (int(k) - len(answer)) for answer in answers]
        return {"item_id": tf.constant(padded), "num_valid": tf.constant([len(answer) for answer in answers])}


def test_answers_become_rows_and_padding_minus_one():
    recommend = Recommender()
    excluded = (np.array([0, 2, 2, 3]), np.array([0, 3, 1]))
    top = rank_items(recommend, np.array(["u", "v", "w"], object), excluded, ITEMS, k=3, batch_size=2)
    assert top.tolist() == [[1, 2, -1], [0, 1, 2], [0, 2, 3]]
    assert recommend.requests == [
        ([b"u", b"v"], [[b"a", b"d"], [b"", b""]]),
        ([b"w"], [[b"b"]]),
    ]


def test_no_users_ask_nothing():
    recommend = Recommender()
    top = rank_items(recommend, ITEMS[:0], (np.zeros(1, np.int64), np.zeros(0, np.int32)), ITEMS, k=3)
    assert top.shape == (0, 3)
    assert recommend.requests == []


def test_an_item_from_nowhere_is_an_error():
    with pytest.raises(ValueError, match="recommends b'x', which is not in the catalogue"):
        rank_items(Recommender(["x"]), ITEMS[:1], (np.zeros(2, np.int64), np.zeros(0, np.int32)), ITEMS, k=1)


def test_overlap_counts_a_users_first_items_and_leaves_out_users_without():
    exact = np.array([[0, 1, 2], [3, 4, 5], [-1, -1, -1]])
    approximate = np.array([[1, 0, 9], [3, 9, 4], [7, 8, 9]])
    assert overlap(exact, approximate, 2) == pytest.approx((1 + 0.5) / 2)
    assert overlap(exact[:0], approximate[:0], 2) == 1


def test_selected_rows_equal_those_of_a_dense_matrix():
    dense = np.random.default_rng(0).random((6, 9)) < 0.3
    indptr = np.concatenate([[0], np.cumsum(dense.sum(axis=1))])
    indices = np.nonzero(dense)[1]
    rows = np.array([4, 0, 5])
    chosen_indptr, chosen = select_rows((indptr, indices), rows)
    back = np.zeros((3, 9), bool)
    back[np.repeat(np.arange(3), np.diff(chosen_indptr)), chosen] = True
    np.testing.assert_array_equal(back, dense[rows])


def test_no_rows_selected():
    indptr, indices = select_rows((np.array([0, 1]), np.array([3])), np.array([], int))
    assert (indptr.tolist(), indices.tolist()) == ([0], [])


def test_a_model_without_the_signature_is_an_error(tmp_path):
    module = tf.Module()
    module.answer = tf.function(lambda: {"one": tf.constant(1)}, input_signature=[])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.answer})
    with pytest.raises(ValueError, match="no signature `recommend`, only serving_default"):
        load_recommend(tmp_path)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"saved_model\.pb"):
        load_recommend(tmp_path)
