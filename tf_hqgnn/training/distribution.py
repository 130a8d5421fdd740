"""Training on several devices of a machine, or on several machines: replicas that stay equal, step by step.

Every replica holds all tables and takes one part of each batch: with R replicas, `training.batch_size` / R pairs.
Gradients are averaged over the replicas, those of the tables as rows, so that a step is one of the whole batch.

* bpr is the single device's loss, negatives included.
* softmax and alignment_uniformity compare the pairs of a batch with each other, and a replica compares those of its
  part: of batch_size / R - 1 other items instead of batch_size - 1. The parts are random parts of a random batch. Test
  NDCG@20 of three seeds on MovieLens-100K with batches of 512: 0.344 to 0.349 on one device and on two, 0.348 to 0.351
  on four. For many replicas let batch_size grow with them.
* An encoder with a graph convolves the whole graph on every replica: only the loss is divided.

In a cluster (`multi_worker`) every worker runs the same command and reads the same log. Worker 0, or the task of type
`chief` if there is one, is the only one that writes, and that validates, searches, codes and reports, on one device;
what it finds that the training depends on it tells the others. A worker that is lost ends the others with
WorkerLostError: once all are started again, with `--resume`, they go on from the chief's last checkpoint.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.types import Array, InputError

_EXAMPLE = '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}'
# What a collective operation ends with when a peer is gone, depending on who notices it first and when.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)

log = logging.getLogger(__name__)


class WorkerLostError(ConnectionError):
    """Another worker of the cluster is gone, and training can't go on without it."""


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that `training.strategy` names.

    Args:
      name: `none`, TensorFlow's default: one device; `mirrored`: all GPUs of this machine, or all its logical CPU
        devices where it has no GPU; `multi_worker`: the cluster of TF_CONFIG. A process joins its cluster once, before
        its first TensorFlow operation, and waits there for the other workers.

    Raises:
      InputError: TF_CONFIG is missing or wrong, or this worker's port can't be listened on.
      WorkerLostError: The other workers can't be reached, or one of them is still about to end after a loss.
      RuntimeError: `multi_worker` after TensorFlow has begun to work.
    """
    if name == "mirrored":
        return _mirror()
    return _join_cluster() if name == "multi_worker" else tf.distribute.get_strategy()


# Once a process: two strategies over the same devices would number their collective operations alike, which then mix.
@functools.cache
def _mirror() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    with _without_tf_config():
        return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextmanager
def _without_tf_config() -> Iterator[None]:
    """Hides TF_CONFIG, which a cluster's operator may have set for another program: one machine needs none."""
    given = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if given is not None:
            os.environ["TF_CONFIG"] = given


@functools.cache
def _join_cluster() -> tf.distribute.Strategy:
    check_tf_config(os.environ)
    config = json.loads(os.environ["TF_CONFIG"])
    size, task = sum(map(len, config["cluster"].values())), config["task"]
    log.info("%s %s joins its cluster of %d", task["type"], task["index"], size)
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            "training.strategy multi_worker has to be set up before TensorFlow's first operation in a process: call "
            f"make_strategy('multi_worker') at its start and pass what it returns to train() ({error})"
        ) from error
    except _LOST as error:
        raise WorkerLostError(
            f"the workers of TF_CONFIG's cluster didn't come together ({_reason(error)}); start all of them again"
        ) from error
    except tf.errors.OpError as error:
        raise InputError(
            f"TF_CONFIG: this worker can't take its place in the cluster ({_reason(error)}); is its port free?"
        ) from error
    if on_term is not None and threading.current_thread() is threading.main_thread():
        # TensorFlow has put a handler of its own there, for which a pod that is asked to end would train on.
        signal.signal(signal.SIGTERM, on_term)
    return strategy


def check_tf_config(environ: Mapping[str, str]) -> None:
    """Raises InputError, saying what is wrong, unless TF_CONFIG describes a cluster of workers and this one's place."""
    text = environ.get("TF_CONFIG")
    if not text:
        raise InputError(
            "training.strategy multi_worker: the environment variable TF_CONFIG isn't set; give every worker its own, "
            f"such as {_EXAMPLE}, or set training.strategy=none"
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"TF_CONFIG isn't JSON ({error}); expected {_EXAMPLE}") from error
    cluster, task = (config.get(key) if isinstance(config, dict) else None for key in ("cluster", "task"))
    if not isinstance(cluster, dict) or not cluster or not isinstance(task, dict):
        raise InputError(f"TF_CONFIG needs `cluster` and `task`, got {text}; expected {_EXAMPLE}")
    for job, addresses in cluster.items():
        if job not in ("chief", "worker"):
            raise InputError(
                f"TF_CONFIG: a cluster here has the jobs chief and worker, got {job!r}; expected {_EXAMPLE}"
            )
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise InputError(f"TF_CONFIG: {job} must be a list of HOST:PORT, got {addresses!r}; expected {_EXAMPLE}")
    job, index = task.get("type"), task.get("index")
    if job not in cluster:
        raise InputError(f"TF_CONFIG: task.type must be one of {', '.join(cluster)}, got {job!r}")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(cluster[job]):
        raise InputError(
            f"TF_CONFIG: task.index must be a number from 0 to {len(cluster[job]) - 1}, a place in cluster.{job}, got "
            f"{index!r}"
        )


def _is_address(value: Any) -> bool:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes; outside of a cluster every process is."""
    return not is_cluster(strategy) or strategy.extended.should_checkpoint


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
    """Whether other machines train, too."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


@contextmanager
def watch_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into a WorkerLostError that says what to do."""
    try:
        yield
    except _LOST as error:
        if not is_cluster(strategy):
            raise
        raise WorkerLostError(
            "another worker of the cluster is gone, and this one ends, too; start all of them again with --resume to "
            f"go on from the last checkpoint ({_reason(error)})"
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """The first line of the message that isn't about where in the program it happened."""
    where = ("Graph execution error", "Detected at node", " ")
    lines = [line for line in (error.message or "").splitlines() if line and not line.startswith(where)]
    return lines[0][:300] if lines else type(error).__name__


def from_chief(strategy: tf.distribute.Strategy, make: Callable[[], Any]) -> Any:
    """What `make` returns on the chief, on every worker of the cluster; elsewhere what it returns.

    Args:
      strategy: of the cluster, all of whose workers have to get here.
      make: () -> something JSON-ready. Only the chief calls it.

    Raises:
      InputError: `make` raised it, on all workers.
    """
    if not is_cluster(strategy):
        return make()
    message = b""
    if is_chief(strategy):
        try:
            answer = {"value": make()}
        except InputError as error:
            answer = {"error": str(error)}
        message = json.dumps(answer, default=float).encode()
    size = int(array_of_chief(strategy, np.array(len(message))))
    padded = np.frombuffer(message, np.uint8) if message else np.zeros(size)
    told = json.loads(array_of_chief(strategy, padded.astype(np.int32)).astype(np.uint8).tobytes())
    if "error" in told:
        raise InputError(told["error"])
    return told["value"]


def check_agreement(strategy: tf.distribute.Strategy, describe: Callable[[], str], what: str) -> None:
    """Raises InputError on a worker whose `what` isn't the chief's."""
    if is_cluster(strategy):
        mine = describe()
        if from_chief(strategy, lambda: mine) != mine:
            raise InputError(f"this worker has other {what} than the chief; give all workers the same")


def share_variables(strategy: tf.distribute.Strategy, variables: Iterable[tf.Variable]) -> None:
    """Gives every worker the chief's values."""
    if is_cluster(strategy):
        for variable in variables:
            variable.assign(array_of_chief(strategy, variable.numpy()))


def array_of_chief(strategy: tf.distribute.Strategy, values: Array) -> Array:
    """Returns the chief's array to every worker; the arrays of the others must have its shape."""
    told = _broadcast_function(strategy, values.dtype.name)(tf.constant(values.ravel()))
    chiefs: Array = strategy.experimental_local_results(told)[0].numpy()
    return chiefs.reshape(values.shape)


@functools.cache
def _broadcast_function(strategy: tf.distribute.Strategy, dtype: str) -> Callable[[tf.Tensor], Any]:
    """(dtype [n]) -> the chief's, on each local replica."""

    def chiefs_or_zeros(mine: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        # Of the chief's replicas the first one alone: this is a sum.
        mine = tf.where(tf.equal(replica.replica_id_in_sync_group, 0), mine, tf.zeros_like(mine))
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    def told(mine: tf.Tensor) -> Any:
        return strategy.run(chiefs_or_zeros, args=(mine,))

    traced: Callable[[tf.Tensor], Any] = tf.function(told, [tf.TensorSpec([None], dtype)], autograph=False)
    return traced


def divide(batches: tf.data.Dataset, strategy: tf.distribute.Strategy, batch_size: int) -> Any:
    """The batches for `fit`: each in equal parts, one for every replica.

    Every worker makes the whole batch, which follows from the seed, and takes its parts: nothing is sent.

    Args:
      batches: of training_batches().
      strategy: that of the model.
      batch_size: of the batches.

    Raises:
      InputError: The batch can't be divided into equal parts of at least two pairs.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 and not is_cluster(strategy):
        return batches
    size, rest = divmod(batch_size, replicas)
    if rest or size < 2:
        fitting = max(batch_size - rest, 2 * replicas)
        raise InputError(
            f"a batch of {batch_size} interactions can't be divided among {replicas} replicas, at least two for each: "
            f"set training.batch_size={fitting}, or another multiple of {replicas} that the train split has room for"
        )

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        @tf.autograph.experimental.do_not_convert
        def parts(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            each = [batch_part(features, number * size, size) for number in range(first, first + local)]
            return {name: tf.stack([part[name] for part in each]) for name in features}

        return batches.map(parts, num_parallel_calls=2, deterministic=True).unbatch().prefetch(64)

    return strategy.distribute_datasets_from_function(of_worker)


def batch_part(features: dict[str, tf.Tensor], start: int, size: int) -> dict[str, tf.Tensor]:
    """The pairs from `start` on, `size` of them, as a batch of their own.

    Args:
      features: a batch of training_batches().
      start: of the part.
      size: of the part.

    Example:
      >>> batch = {"user_index": tf.constant([1, 2, 3, 4]), "is_positive": tf.eye(4, dtype=tf.bool)}
      >>> part = batch_part(batch, 2, 2)
      >>> part["user_index"].numpy().tolist(), part["is_positive"].numpy().tolist()
      ([3, 4], [[True, False], [False, True]])
    """
    part = {name: value[start : start + size] for name, value in features.items()}
    if "is_positive" in part:
        part["is_positive"] = part["is_positive"][:, start : start + size]
    return part
