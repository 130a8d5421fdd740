"""A handler by which Beam's RunInference asks an exported SavedModel, in batches of its best size."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler

from tf_hqgnn.beam.question import Question
from tf_hqgnn.beam.shards import ShardOfUsers
from tf_hqgnn.beam.users import COLUMN
from tf_hqgnn.export.layout import FOR_FEATURES
from tf_hqgnn.queries.arrays import as_objects, encoded, padded
from tf_hqgnn.types import InputError

# Scores of one call, 256 MB; beyond 2,048 users, more are no faster (benchmarks/batch.py).
_SCORES = 1 << 26
_SMALLEST, _LARGEST = 64, 2048
# Of a model that doesn't say how many items it has.
_UNKNOWN_SIZE = 1 << 17

ANSWERS = pa.schema(
    [
        (COLUMN, pa.string()),
        ("known_user", pa.bool_()),
        ("item_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, eq=False)
class ShardOfAnswers:
    """A shard's users, and a row of the schema `ANSWERS` for each of them."""

    users: ShardOfUsers
    answers: pa.Table


@dataclass(eq=False)
class LoadedModel:
    """A SavedModel in memory.

    Args:
      root: what was loaded; its variables live as long as it does, which a signature alone doesn't see to.
      recommend: the signature that answers the question.
      batch_size: users of a call, for the most answers a second.
      for_features: the signature for users who are known by features alone; None where none were given.
      features: of those users, `name=value` by id in UTF-8.
      listed: by id of a user in UTF-8, items that it took since training, or that are to be scored; None for neither.
    """

    root: Any
    recommend: Any
    batch_size: int
    for_features: Any = None
    features: Mapping[bytes, list[str]] = field(default_factory=dict)
    listed: Mapping[bytes, list[str]] | None = None

    def release(self) -> None:
        """Lets go of the model."""
        self.root = self.recommend = self.for_features = None


class RecommendHandler(ModelHandler[ShardOfUsers, ShardOfAnswers, LoadedModel]):
    """Top-k for shards of users. RunInference loads one model a process, which its threads share.

    An element is a shard, not a user, so that Beam's bookkeeping costs nothing. Needs no TensorFlow until a worker
    loads the model.

    Args:
      model: folder of a SavedModel, on any file system that TensorFlow can read.
      question: what is asked about each user.
      batch_size: users of one call of the model; None is the best size for its catalogue.
      tf_threads: of TensorFlow in a worker process; None leaves it to TensorFlow, which takes every core.
      user_features: paths, separated by commas, of features of users, which every worker reads; users that the model
        doesn't know are answered by them.
      histories: path of a log of new interactions, which every worker reads, and which count for their users.
      score: path of a log of pairs, which every worker reads, and which are scored instead of anything recommended.
    """

    def __init__(
        self,
        model: str,
        question: Question,
        batch_size: int | None = None,
        tf_threads: int | None = None,
        user_features: str | None = None,
        histories: str | None = None,
        score: str | None = None,
    ) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._model = model
        self._question = question
        self._batch_size = batch_size
        self._tf_threads = tf_threads
        self._user_features = user_features
        self._histories = histories
        self._score = score

    def load_model(self) -> LoadedModel:
        """The SavedModel and its signature, after `import scann` if it has ScaNN's operations.

        Raises:
          InputError: There is no such model, it lacks the signature, or it needs ScaNN and that isn't installed.
        """
        signature, log = self._question.signature, None
        if self._score is not None:
            signature, log = "score", ("--score", self._score)
        elif self._histories is not None:
            signature, log = "recommend_with_history", ("--histories", self._histories)
        return load_model(self._model, self._tf_threads, self._user_features, signature, log)

    def run_inference(
        self, batch: Sequence[ShardOfUsers], model: LoadedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterator[ShardOfAnswers]:
        """The answers of each shard, in the order of its users."""
        del inference_args
        size = self._batch_size or model.batch_size
        for users in batch:
            ids = users.rows.column(COLUMN).combine_chunks()
            ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
            parts = [self._answer(model, ids[start : start + size]) for start in range(0, len(ids), size)]
            yield ShardOfAnswers(users, pa.Table.from_batches(parts, ANSWERS))

    def _answer(self, model: LoadedModel, user_ids: pa.Array) -> pa.RecordBatch:
        return answer(model, user_ids, self._question) if self._score is None else score(model, user_ids)

    def get_num_bytes(self, batch: Sequence[ShardOfUsers]) -> int:
        """Of the ids; the default would serialize them to count."""
        return sum(users.rows.nbytes for users in batch)

    def get_metrics_namespace(self) -> str:
        """Of the counters that runners show."""
        return "tf_hqgnn"

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """A shard is a batch already."""
        return {"min_batch_size": 1, "max_batch_size": 1}


def load_model(
    model: str,
    tf_threads: int | None = None,
    user_features: str | None = None,
    signature: str = "recommend",
    log: tuple[str, str] | None = None,
) -> LoadedModel:
    """See `RecommendHandler`."""
    import tf_hqgnn  # noqa: F401  Chooses Keras 2 before TensorFlow is imported.

    import tensorflow as tf  # isort: skip

    if tf_threads is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(tf_threads)
            tf.config.threading.set_inter_op_parallelism_threads(tf_threads)
        except RuntimeError as error:
            raise InputError(
                "--tf-threads: TensorFlow already runs in this process: add --direct_running_mode=multi_processing"
            ) from error
    from tf_hqgnn.export.loading import load_saved_model

    try:
        root = load_saved_model(model)
    except (ImportError, ValueError) as error:
        raise InputError(f"--model {error}") from error
    if signature not in root.signatures:
        found = ", ".join(sorted(root.signatures))
        raise InputError(
            f"--model {model} has no signature {signature}, only {found}: expected one of `tf-hqgnn export`"
        )
    loaded = LoadedModel(root, root.signatures[signature], best_batch_size(_num_items(model)))
    if user_features is not None:
        if FOR_FEATURES not in root.signatures:
            raise InputError(f"--model {model} has learnt nothing from features of users; leave out --user-features")
        loaded.for_features, loaded.features = root.signatures[FOR_FEATURES], _features_by_id(user_features)
    if log is not None:
        loaded.listed = _items_by_user(*log)
    # Beam holds it until the interpreter takes itself apart, when TensorFlow can't delete its functions any more.
    atexit.register(_release, weakref.ref(loaded))
    return loaded


def best_batch_size(num_items: int) -> int:
    """Users of a call, for a catalogue.

    Example:
      >>> [best_batch_size(num_items) for num_items in (1_682, 10_000, 40_981, 1_000_000)]
      [2048, 2048, 1024, 64]
    """
    return min(_LARGEST, max(_SMALLEST, 1 << max(1, _SCORES // num_items).bit_length() - 1))


def _features_by_id(paths: str) -> dict[bytes, list[str]]:
    from tf_hqgnn.data.feature_input import read_features

    table = read_features(paths, "users", "all")
    if table is None:
        return {}
    return {name.encode(): [pair for pair in row if pair] for name, row in zip(table.ids, table.pairs())}


def _items_by_user(option: str, path: str) -> dict[bytes, list[str]]:
    from tf_hqgnn.config import DataConfig
    from tf_hqgnn.data.any_log import read_log
    from tf_hqgnn.data.report import BadRowLog

    with BadRowLog() as bad_rows:
        table = read_log(path, option, DataConfig(), bad_rows, pairs_only=True).table
    pairs, found = table.interactions, dict[bytes, list[str]]()
    for user, item in zip(table.user_ids[pairs.user_index], table.item_ids[pairs.item_index]):
        found.setdefault(user.encode(), []).append(item)
    return found


def _num_items(model: str) -> int:
    from tf_hqgnn.export.layout import ITEM_IDS
    from tf_hqgnn.export.stored import StoredModel

    stored = StoredModel(model)
    return stored.size(ITEM_IDS) if ITEM_IDS in stored else _UNKNOWN_SIZE


def _release(loaded: weakref.ref[LoadedModel]) -> None:
    model = loaded()
    if model is not None:
        model.release()


def answer(model: LoadedModel, user_ids: pa.Array, question: Question) -> pa.RecordBatch:
    """Rows of the schema `ANSWERS` for `user_ids` (binary, UTF-8), by one call of the model."""
    ids = user_ids.to_pylist()
    listed = model.listed
    outputs = model.recommend(**(question.inputs(ids) if listed is None else question.with_histories(ids, listed)))
    found = {name: outputs[name].numpy() for name in ("num_valid", "item_id", "score", "known_user")}
    if model.for_features is not None:
        _answer_by_features(model, ids, question, found)
    return _record_batch(user_ids, found)


def score(model: LoadedModel, user_ids: pa.Array) -> pa.RecordBatch:
    """Rows of the schema `ANSWERS`: the items of each user's list, best first; none where something is unknown."""
    import tensorflow as tf

    ids, listed = user_ids.to_pylist(), model.listed or {}
    items = padded([encoded(listed.get(user, [])) for user in ids])
    outputs = model.recommend(user_id=tf.constant(as_objects(ids)), item_id=tf.constant(items))
    known_user = outputs["known_user"].numpy()
    known = outputs["known_item"].numpy() & known_user[:, None]
    scores = outputs["score"].numpy()
    order = np.lexsort((-scores, ~known), axis=1)
    found = {
        "num_valid": known.sum(axis=1),
        "known_user": known_user,
        "item_id": np.take_along_axis(items, order, axis=1),
        "score": np.take_along_axis(scores, order, axis=1),
    }
    return _record_batch(user_ids, found)


def _record_batch(user_ids: pa.Array, found: dict[str, Any]) -> pa.RecordBatch:
    num_valid, item_ids, scores = found["num_valid"], found["item_id"], found["score"]
    is_valid = np.arange(item_ids.shape[1]) < num_valid[:, None]
    ends = pa.array(np.concatenate([[0], np.cumsum(num_valid)]), pa.int32())
    columns = [
        user_ids.cast(pa.string()),
        pa.array(found["known_user"]),
        pa.ListArray.from_arrays(ends, pa.array(item_ids[is_valid], pa.binary()).cast(pa.string())),
        pa.ListArray.from_arrays(ends, pa.array(scores[is_valid])),
    ]
    return pa.record_batch(columns, schema=ANSWERS)


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
