"""A client for the recommender, on this package's server or on TF Serving."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Iterable, Sequence

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor
from tf_hqgnn.types import InputError

DEFAULT_MODEL = "hqgnn"

_MISTAKES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)


class ServerUnavailable(RuntimeError):
    """No answer: nothing listens at the address, or it took longer than the timeout."""


@dataclass(frozen=True)
class Recommendation:
    """The answer for one user; only real answers, best first.

    Args:
      user_id: As asked.
      known_user: False if the model hasn't seen the user: the items are the popular ones.
      scores: float32 [n], n <= k.
      item_ids: n ids.
    """

    user_id: str
    known_user: bool
    scores: np.ndarray
    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class SimilarItems:
    """The answer for one item; only real answers, best first.

    Args:
      item_id: As asked.
      scores: float32 [n], n <= k.
      item_ids: n ids.
    """

    item_id: str
    scores: np.ndarray
    item_ids: tuple[str, ...]


class Client:
    """Calls a server; safe to share between threads.

    Args:
      address: "host:port" of the gRPC port.
      timeout: Seconds that one call may take, > 0.

    `with Client("127.0.0.1:8500") as client: client.recommend(["user 7"], k=5)`
    """

    def __init__(self, address: str = "127.0.0.1:8500", timeout: float = 10.0) -> None:
        if timeout <= 0:
            raise InputError(f"expected a timeout > 0 seconds, got {timeout}")
        if not address.rpartition(":")[2].isdigit():
            raise InputError(f"expected the server's address as HOST:PORT, got {address!r}")
        self._address = address
        self._timeout = timeout
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
    ) -> list[Recommendation]:
        """The best unseen items of each user.

        Args:
          user_ids: The users; unknown ones get popular items.
          k: Answers per user at most, >= 1.
          exclude: Items never to return: ids for all users, or one list of ids per user.
          model: Which model answers.
          version: Which of its versions; None is the one served.

        Raises:
          InputError: The arguments are wrong, or the server says so.
          ServerUnavailable: No answer.
        """
        users = _ids("user_ids", user_ids)
        if not len(users):
            return []
        inputs = {"user_id": users, "k": _check_k(k), "exclude_item_id": _exclusions(exclude, len(users))}
        outputs = self.predict("recommend", inputs, model, version)
        known = outputs["known_user"]
        rows = _valid_rows(outputs)
        return [Recommendation(user, bool(known[row]), *rows[row]) for row, user in enumerate(user_ids)]

    def similar_items(
        self, item_ids: Sequence[str], k: int = 10, model: str = DEFAULT_MODEL, version: int | None = None
    ) -> list[SimilarItems]:
        """The items nearest to each item; none for an item that the model doesn't know. Arguments as in `recommend`."""
        items = _ids("item_ids", item_ids)
        if not len(items):
            return []
        rows = _valid_rows(self.predict("similar_items", {"item_id": items, "k": _check_k(k)}, model, version))
        return [SimilarItems(item, *rows[row]) for row, item in enumerate(item_ids)]

    def embed(
        self, user_ids: Sequence[str], model: str = DEFAULT_MODEL, version: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`(embedding, known_user)`: float32 [n, d] and bool [n]. Arguments as in `recommend`."""
        outputs = self.predict("embed_user", {"user_id": _ids("user_ids", user_ids)}, model, version)
        return outputs["embedding"], outputs["known_user"]

    def predict(
        self,
        signature_name: str,
        inputs: dict[str, np.ndarray],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Calls any signature with arrays (strings as objects of bytes); returns its outputs as arrays."""
        request = predict_pb2.PredictRequest(model_spec=_spec(model, version), output_filter=output_filter)
        request.model_spec.signature_name = signature_name
        for name, array in inputs.items():
            encode_tensor(array, request.inputs[name])
        response = self._call(self._prediction.Predict, request)
        return {name: decode_tensor(name, proto) for name, proto in response.outputs.items()}

    def status(self, model: str = DEFAULT_MODEL) -> dict[int, tuple[str, str]]:
        """The state (LOADING, AVAILABLE, UNLOADING, END..) and the error message, "" if none, of each version."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(model, None))
        response = self._call(self._model.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            entry.version: (name(entry.state), entry.status.error_message) for entry in response.model_version_status
        }

    def metadata(
        self, model: str = DEFAULT_MODEL, version: int | None = None
    ) -> dict[str, meta_graph_pb2.SignatureDef]:
        """The signatures of a model by name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_spec(model, version), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return dict(definitions.signature_def)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._explained(error.code(), error.details() or "") from error

    def _explained(self, code: grpc.StatusCode, details: str) -> Exception:
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerUnavailable(f"{self._address} gave no answer within {self._timeout:g} s: raise the timeout")
        if code == grpc.StatusCode.UNAVAILABLE:
            return ServerUnavailable(
                f"nothing answers at {self._address}: start a server with `tf-hqgnn serve EXPORT_DIR`, or check the "
                f"address (gRPC port, not REST) ({details})"
            )
        if code in _MISTAKES:
            return InputError(f"{self._address}: {details}")
        return ServingError(code, f"{self._address}: {details}")


def _spec(model: str, version: int | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    return spec


def _ids(name: str, ids: Sequence[str]) -> np.ndarray:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable) or not all(isinstance(one, str) for one in ids):
        raise InputError(f"{name}: expected a list of strings, got {ids!r}")
    array = np.empty(len(ids), object)
    array[:] = [one.encode("utf-8") for one in ids]
    return array


def _exclusions(exclude: Sequence[str] | Sequence[Sequence[str]], num_users: int) -> np.ndarray:
    """[num_users, E] ids as bytes, padded with ""."""
    if isinstance(exclude, (str, bytes)):
        raise InputError(f"exclude: expected a list of item ids or one list per user, got {exclude!r}")
    lists = [_ids("exclude", one) for one in exclude if not isinstance(one, str)]
    if not lists:
        lists = [_ids("exclude", [str(one) for one in exclude])] * num_users
    elif len(lists) != len(exclude):
        raise InputError("exclude: expected item ids or lists of them, not both at once")
    if len(lists) != num_users:
        raise InputError(f"exclude: expected one list for each of the {num_users} users, got {len(lists)}")
    padded = np.full((num_users, max(1, *map(len, lists))), b"", object)
    for row, ids in enumerate(lists):
        padded[row, : len(ids)] = ids
    return padded


def _check_k(k: int) -> np.ndarray:
    if not 1 <= k < 2**31:
        raise InputError(f"k: expected at least 1, got {k}")
    return np.array(k, np.int32)


def _valid_rows(outputs: dict[str, np.ndarray]) -> list[tuple[np.ndarray, tuple[str, ...]]]:
    return [
        (scores[:valid], tuple(item.decode("utf-8") for item in items[:valid]))
        for scores, items, valid in zip(outputs["score"], outputs["item_id"], outputs["num_valid"], strict=True)
    ]
