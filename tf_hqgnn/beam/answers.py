"""A batch run asks a model about users, and makes rows of the answers: one `Task` for each kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tf_hqgnn.beam.question import Question
from tf_hqgnn.beam.users import COLUMN
from tf_hqgnn.queries.arrays import as_objects, encoded, padded
from tf_hqgnn.types import Array, IntArray, ObjectArray

_USER = [(COLUMN, pa.string()), ("known_user", pa.bool_())]
_ITEMS = ("item_ids", pa.list_(pa.string()))
_SCORES = ("scores", pa.list_(pa.float32()))


@dataclass(eq=False)
class LoadedModel:
    """A SavedModel in memory.

    Args:
      root: what was loaded; its variables live as long as it does, which a signature alone doesn't see to.
      signature: the signature that answers.
      batch_size: users of a call, for the most answers a second.
      for_features: the signature for users who are known by features alone; None where none were given.
      features: of those users, `name=value` by id in UTF-8.
      listed: by id of a user in UTF-8, items that it took since training, or that are asked about; None for neither.
    """

    root: Any
    signature: Any
    batch_size: int
    for_features: Any = None
    features: Mapping[bytes, list[str]] = field(default_factory=dict)
    listed: Mapping[bytes, list[str]] | None = None

    def release(self) -> None:
        """Lets go of the model."""
        self.root = self.signature = self.for_features = None


@dataclass(frozen=True)
class Task:
    """A kind of answer.

    Args:
      signature: that gives it; None where the question says which.
      schema: of its rows, one for each user.
      answer: takes a model, ids of users (binary, UTF-8) and the question, and returns the rows.
    """

    signature: str | None
    schema: pa.Schema
    answer: Callable[[LoadedModel, pa.Array, Question], pa.RecordBatch]


def recommend(model: LoadedModel, user_ids: pa.Array, question: Question) -> pa.RecordBatch:
    """Rows with the best items of each user, by one call of the model."""
    ids = user_ids.to_pylist()
    listed = model.listed
    outputs = model.signature(**(question.inputs(ids) if listed is None else question.with_histories(ids, listed)))
    found = {name: outputs[name].numpy() for name in ("num_valid", "item_id", "score", "known_user")}
    if model.for_features is not None:
        _answer_by_features(model, ids, question, found)
    return _rows(RECOMMEND.schema, user_ids, found["known_user"], found["num_valid"], found["item_id"], found["score"])


def score(model: LoadedModel, user_ids: pa.Array, question: Question) -> pa.RecordBatch:
    """Rows with the items of each user's list, best first; none where the user or the item is unknown."""
    import tensorflow as tf

    del question
    ids, listed = user_ids.to_pylist(), model.listed or {}
    items = padded([encoded(listed.get(user, [])) for user in ids])
    outputs = model.signature(user_id=tf.constant(as_objects(ids)), item_id=tf.constant(items))
    known_user = outputs["known_user"].numpy()
    known = outputs["known_item"].numpy() & known_user[:, None]
    scores = outputs["score"].numpy()
    order = np.lexsort((-scores, ~known), axis=1)
    items, scores = (np.take_along_axis(values, order, axis=1) for values in (items, scores))
    return _rows(SCORE.schema, user_ids, known_user, known.sum(axis=1), items, scores)


def explain(model: LoadedModel, user_ids: pa.Array, question: Question) -> pa.RecordBatch:
    """Rows with the items of each user's list, and for each what of the user's history adds most to its score.

    The score of an item is the sum of the shares of all of the history and `rest`. An item that is unknown, or that an
    unknown user is asked about, isn't in the row.
    """
    import tensorflow as tf

    ids, listed = user_ids.to_pylist(), model.listed or {}
    # A user without items is asked about none, to learn whether it is known.
    lists = [encoded(listed.get(user, []) or [""]) for user in ids]
    sizes = np.array([len(one) for one in lists], np.int64)
    items, users = np.concatenate(lists), np.repeat(as_objects(ids), sizes)
    names = "known_user", "known_item", "num_valid", "history_item_id", "share", "score", "rest"
    parts = []
    for start in range(0, len(items), model.batch_size):
        part = slice(start, start + model.batch_size)
        asked = {"user_id": tf.constant(users[part]), "item_id": tf.constant(items[part])}
        outputs = model.signature(**asked, k=tf.constant(question.k, tf.int32))
        parts.append([outputs[name].numpy() for name in names])
    columns = (np.concatenate(column) for column in zip(*parts))
    known_user, known_item, num_valid, history, share, scores, rest = columns
    is_answered = known_user & known_item
    begins = np.cumsum(sizes) - sizes
    num_items = np.add.reduceat(is_answered.astype(np.int64), begins)
    is_share = (np.arange(history.shape[1]) < num_valid[:, None]) & is_answered[:, None]
    inner = num_valid[is_answered]
    rows = [
        user_ids.cast(pa.string()),
        pa.array(known_user[begins]),
        _lists(num_items, _texts(items[is_answered])),
        *(_lists(num_items, pa.array(values[is_answered])) for values in (scores, rest)),
        _lists(num_items, _lists(inner, _texts(history[is_share]))),
        _lists(num_items, _lists(inner, pa.array(share[is_share]))),
    ]
    return pa.record_batch(rows, schema=EXPLAIN.schema)


def similar_users(model: LoadedModel, user_ids: pa.Array, question: Question) -> pa.RecordBatch:
    """Rows with the users whose embeddings have the highest cosine with each user's own; none for an unknown user."""
    import tensorflow as tf

    asked = tf.constant(as_objects(user_ids.to_pylist()))
    outputs = model.signature(user_id=asked, k=tf.constant(question.k, tf.int32))
    names = "known_user", "num_valid", "similar_user_id", "score"
    return _rows(SIMILAR_USERS.schema, user_ids, *(outputs[name].numpy() for name in names))


RECOMMEND = Task(None, pa.schema([*_USER, _ITEMS, _SCORES]), recommend)
SCORE = Task("score", RECOMMEND.schema, score)
_SHARES = ("rest", _SCORES[1]), ("history_item_ids", pa.list_(_ITEMS[1])), ("shares", pa.list_(_SCORES[1]))
EXPLAIN = Task("explain", pa.schema([*_USER, _ITEMS, _SCORES, *_SHARES]), explain)
SIMILAR_USERS = Task("similar_users", pa.schema([*_USER, ("similar_user_ids", _ITEMS[1]), _SCORES]), similar_users)


def _rows(
    schema: pa.Schema, user_ids: pa.Array, known_user: Array, num_valid: IntArray, ids: ObjectArray, scores: Array
) -> pa.RecordBatch:
    """A row for each user, of ids and scores [B, k] of which the first `num_valid` are real."""
    is_valid = np.arange(ids.shape[1]) < num_valid[:, None]
    lists = _lists(num_valid, _texts(ids[is_valid])), _lists(num_valid, pa.array(scores[is_valid]))
    return pa.record_batch([user_ids.cast(pa.string()), pa.array(known_user), *lists], schema=schema)


def _texts(values: ObjectArray) -> pa.Array:
    return pa.array(values, pa.binary()).cast(pa.string())


def _lists(lengths: IntArray, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def _answer_by_features(model: LoadedModel, ids: Sequence[bytes], question: Question, found: dict[str, Any]) -> None:
    """Puts answers by features in the places of users that the model doesn't know."""
    import tensorflow as tf

    rows = [row for row in np.flatnonzero(~found["known_user"]) if ids[row] in model.features]
    if not rows:
        return
    features = tf.constant(padded([encoded(model.features[ids[row]]) for row in rows]))
    inputs = question.inputs([ids[row] for row in rows])
    del inputs["user_id"]
    outputs = model.for_features(user_feature=features, **inputs)
    for name, values in found.items():
        values[rows] = outputs[name].numpy()
