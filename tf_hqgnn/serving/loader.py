"""A version of a model in memory: loaded from its SavedModel, warmed up, ready to answer."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Callable, Mapping, Sequence

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2, saved_model_pb2
from tensorflow.python.saved_model.loader_impl import SavedModelLoader
from tensorflow_serving.apis import prediction_log_pb2

from tf_hqgnn.export.layout import DEFAULT_SIGNATURE, MAX_WARMUP_RECORDS, SAVED_MODEL_FILE, WARMUP_FILE
from tf_hqgnn.export.loading import import_scann, uses_scann
from tf_hqgnn.export.warmup import warmup_records
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument, not_found, printable
from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.serving.tensors import decode_tensor
from tf_hqgnn.types import Array, InputError

log = logging.getLogger(__name__)

# Operations run one after the other in the thread that calls, each still on all cores if it is large. Handing them to
# other threads costs a small request more than all its operations take. The graph is optimized once over: a second time
# changes no latency, and is a sixth of what loading takes.
_IN_CALLERS_THREAD = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)
_IN_CALLERS_THREAD.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE


class LoadedVersion:
    """The signatures of one version.

    Args:
      version: Its number.
      definitions: Every SignatureDef of the SavedModel, as GetModelMetadata gives them.
      session: Holds the graph and its variables; each signature is a call prepared in it. That is how TF Serving runs a
        SavedModel too, and it takes half the time of a call of `tf.saved_model.load`'s functions with NumPy arrays.
    """

    def __init__(
        self, version: int, definitions: Mapping[str, meta_graph_pb2.SignatureDef], session: tf.compat.v1.Session
    ) -> None:
        self.version = version
        self.definitions = definitions
        self._prepared = {
            name: _Prepared(session, definition) for name, definition in definitions.items() if definition.method_name
        }
        self._signatures = {name: Signature(definitions[name], prepared) for name, prepared in self._prepared.items()}

    def prepare(self) -> None:
        """Prepares every signature, which its first call does otherwise."""
        for prepared in self._prepared.values():
            prepared.prepare()

    def signature(self, name: str) -> Signature | None:
        """The signature called `name` ("" is serving_default), or None; gRPC and REST differ in what that means."""
        return self._signatures.get(name or DEFAULT_SIGNATURE)

    def predict(
        self, signature_name: str, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Calls a signature; see `Signature.__call__`, and `existing_signature` for one that isn't there."""
        return self.existing_signature(signature_name)(inputs, output_filter)

    def existing_signature(self, name: str) -> Signature:
        """`signature`, but one there is.

        Raises:
          ServingError: FAILED_PRECONDITION if there is no such signature, as RunPredict of TF Serving answers.
        """
        signature = self.signature(name)
        if signature is None:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{printable(name or DEFAULT_SIGNATURE)}" not found.',
            )
        return signature


def load_version(directory: Path, version: int, warm_up: bool = True) -> LoadedVersion:
    """Loads a SavedModel and replays its warm-up records.

    Args:
      directory: Holds saved_model.pb.
      version: The number that `directory` stands for.
      warm_up: Whether its signatures are prepared and its warm-up records replayed, so that no request waits for that.

    Raises:
      ServingError: The SavedModel is missing, broken, needs ops that aren't there, or a warm-up record fails.
    """
    meta_graph = _read_meta_graph(directory)
    _import_custom_ops(meta_graph)
    try:
        with tf.Graph().as_default() as graph:
            session = tf.compat.v1.Session(graph=graph, config=_IN_CALLERS_THREAD)
            SavedModelLoader(str(directory)).load(session, ["serve"])
            loaded = LoadedVersion(version, dict(meta_graph.signature_def), session)
            if warm_up:
                loaded.prepare()
    except Exception as error:  # A broken SavedModel raises nearly anything: KeyError, OSError, ValueError, OpError...
        raise from_exception(error) from error
    if warm_up:
        replayed = warm_up_version(loaded, directory / WARMUP_FILE)
        log.debug("%s: %d warm-up records replayed", directory, replayed)
    return loaded


def _read_meta_graph(directory: Path) -> meta_graph_pb2.MetaGraphDef:
    path = directory / SAVED_MODEL_FILE
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise not_found(f"Could not find SavedModel .pb at supplied export directory path: {directory}") from error
    except OSError as error:
        raise ServingError(from_exception(error).code, f"{path} can't be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise ServingError(grpc.StatusCode.DATA_LOSS, f"{path} is damaged or cut short: {error}") from error
    for meta_graph in model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return meta_graph
    raise not_found(f'{path} has no graph tagged "serve": it is empty, cut short or not made for serving')


def _import_custom_ops(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """ScaNN's ops are registered by importing it; models without them load where ScaNN isn't installed."""
    if not uses_scann(meta_graph):
        return
    try:
        import_scann("the model")
    except ImportError as error:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error


def warm_up_version(loaded: LoadedVersion, path: Path) -> int:
    """Replays the records of `path`, if it exists, and returns how many there were."""
    if not path.exists():
        return 0
    count = 0
    try:
        for record in warmup_records(path):
            count += 1
            if count > MAX_WARMUP_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS})")
            _replay(loaded, record)
    except InputError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS,
            f"{error}. Please verify your warmup data is in TFRecord format.",
        ) from error
    except ServingError as error:
        raise ServingError(error.code, f"warm-up record {count} of {path.name}: {error.message}") from error
    return count


def _replay(loaded: LoadedVersion, record: bytes) -> None:
    try:
        entry = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {error}") from error
    kind = entry.WhichOneof("log_type")
    if kind != "predict_log":
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED, f"expected a predict_log, got {kind or 'an empty PredictionLog'}"
        )
    request = entry.predict_log.request
    inputs = {name: decode_tensor(name, proto) for name, proto in request.inputs.items()}
    loaded.predict(request.model_spec.signature_name, inputs, request.output_filter)


class _Prepared:
    """A call that takes the inputs as arrays, in the order of their names, and returns the outputs likewise.

    `session.make_callable` is public, but with inputs it falls back to `session.run`, which takes longer to look at
    what it is given than a small model takes to run. This is what Keras prepares its own calls with. TensorFlow
    optimizes a signature's graph when it is prepared, a quarter of a second each: whoever asks one thing waits for one.
    """

    def __init__(self, session: tf.compat.v1.Session, definition: meta_graph_pb2.SignatureDef) -> None:
        self._session = session
        self._options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in sorted(definition.inputs)],
            fetch=[definition.outputs[name].name for name in sorted(definition.outputs)],
            run_options=config_pb2.RunOptions(inter_op_thread_pool=_IN_CALLERS_THREAD.inter_op_parallelism_threads),
        )
        for name in (*self._options.feed, *self._options.fetch):
            session.graph.as_graph_element(name)
        self._function: Callable[..., Sequence[Array]] | None = None
        self._lock = threading.Lock()

    def prepare(self) -> Callable[..., Sequence[Array]]:
        with self._lock:
            if self._function is None:
                self._function = self._session._make_callable_from_options(self._options)
            return self._function

    def __call__(self, *arrays: Array) -> Sequence[Array]:
        return (self._function or self.prepare())(*arrays)
