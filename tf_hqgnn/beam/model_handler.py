"""A handler by which Beam's RunInference asks an exported SavedModel, in batches of its best size."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler

from tf_hqgnn.beam.answers import EXPLAIN, RECOMMEND, SCORE, SIMILAR_USERS, LoadedModel, Task
from tf_hqgnn.beam.question import Question
from tf_hqgnn.beam.shards import ShardOfUsers
from tf_hqgnn.beam.users import COLUMN
from tf_hqgnn.export.layout import FOR_FEATURES
from tf_hqgnn.types import InputError

# Scores of one call, 256 MB; beyond 2,048 users, more are no faster (benchmarks/batch.py).
_SCORES = 1 << 26
_SMALLEST, _LARGEST = 64, 2048
# Of a model that doesn't say how many items it has.
_UNKNOWN_SIZE = 1 << 17

# The columns of recommendations.
ANSWERS = RECOMMEND.schema


@dataclass(frozen=True, eq=False)
class ShardOfAnswers:
    """A shard's users, and a row of a `Task`'s schema for each of them."""

    users: ShardOfUsers
    answers: pa.Table


class RecommendHandler(ModelHandler[ShardOfUsers, ShardOfAnswers, LoadedModel]):
    """Answers for shards of users. RunInference loads one model a process, which its threads share.

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
      explain: path of a log of pairs, which every worker reads, and which are explained instead.
      similar_users: whether similar users are asked for instead.
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
        explain: str | None = None,
        similar_users: bool = False,
    ) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._model = model
        self._question = question
        self._batch_size = batch_size
        self._tf_threads = tf_threads
        self._user_features = user_features
        self._histories = histories
        self._score = score
        self._explain = explain
        self._similar_users = similar_users

    def load_model(self) -> LoadedModel:
        """The SavedModel and its signature, after `import scann` if it has ScaNN's operations.

        Raises:
          InputError: There is no such model, it lacks the signature, or it needs ScaNN and that isn't installed.
        """
        signature, log = self._task.signature or self._question.signature, None
        if self._score is not None:
            log = ("--score", self._score)
        elif self._explain is not None:
            log = ("--explain", self._explain)
        elif self._histories is not None:
            signature, log = "recommend_with_history", ("--histories", self._histories)
        return load_model(self._model, self._tf_threads, self._user_features, signature, log)

    @property
    def _task(self) -> Task:
        # Not an attribute: a handler is sent to the workers.
        if self._similar_users:
            return SIMILAR_USERS
        return RECOMMEND if self._score is self._explain is None else SCORE if self._explain is None else EXPLAIN

    def run_inference(
        self, batch: Sequence[ShardOfUsers], model: LoadedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterator[ShardOfAnswers]:
        """The answers of each shard, in the order of its users."""
        del inference_args
        task, size = self._task, self._batch_size or model.batch_size
        for users in batch:
            ids = users.rows.column(COLUMN).combine_chunks()
            ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
            starts = range(0, len(ids), size)
            parts = [task.answer(model, ids[start : start + size], self._question) for start in starts]
            yield ShardOfAnswers(users, pa.Table.from_batches(parts, task.schema))

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
