"""Random requests against a server: `python -m benchmarks.fuzz --inputs 100000`, also `make fuzz`.

A third each is protocol buffers over gRPC, JSON over REST, and bytes on the REST port. Every answer has to be a
documented one (no 500, no INTERNAL, no UNKNOWN), the server has to give the right answer to a right question in
between, and in the end it may hold no more threads, files and memory than after the first tenth.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.served import ServerProcess, write_version

from tensorflow.core.framework import tensor_pb2, types_pb2  # isort: skip
from tensorflow_serving.apis import predict_pb2  # isort: skip

DOCUMENTED_CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Not offered (classify), overloaded, too late; 505 is for other versions of HTTP.
DOCUMENTED_5XX = {501, 503, 504, 505}
METHODS = [
    "PredictionService/Predict",
    "PredictionService/GetModelMetadata",
    "PredictionService/Classify",
    "ModelService/GetModelStatus",
    "ModelService/HandleReloadConfigRequest",
]
SIGNATURES = ["", "serving_default", "recommend", "recommend_for_history", "similar_items", "embed_user", "tf_example"]
INPUTS = ["user_id", "item_id", "history_item_id", "exclude_item_id", "category", "k", "examples"]

names = st.one_of(st.text(max_size=20), st.sampled_from(["", "hqgnn", "a\nb", "n" * 9000, "é" * 3000]))
sizes = st.one_of(st.integers(0, 5), st.sampled_from([-1, 16, 4096, 4097, 2**20, 2**31, 2**62]))
integers = st.one_of(st.integers(-3, 12), st.sampled_from([2**31 - 1, -(2**31), 65_536]))


@st.composite
def tensors(draw: Callable[..., Any]) -> tensor_pb2.TensorProto:
    """A tensor whose type, shape and values needn't fit."""
    proto = tensor_pb2.TensorProto(
        dtype=draw(st.one_of(st.sampled_from([types_pb2.DT_STRING, types_pb2.DT_INT32]), st.integers(0, 130)))
    )
    for size in draw(st.one_of(st.lists(st.integers(1, 3), max_size=2), st.lists(sizes, max_size=35))):
        proto.tensor_shape.dim.add(size=size)
    proto.string_val.extend(draw(st.lists(st.one_of(st.binary(max_size=8), st.just(b"u1")), max_size=6)))
    proto.int_val.extend(draw(st.lists(integers, max_size=3)))
    if draw(st.integers(0, 9)) == 0:
        proto.tensor_content = draw(st.binary(max_size=30))
    return proto


@st.composite
def whole_requests(draw: Callable[..., Any]) -> predict_pb2.PredictRequest:
    """A request for a signature that is there, with tensors of the right types; its sizes may contradict each other."""
    request = predict_pb2.PredictRequest()
    signature = draw(st.sampled_from(SIGNATURES))
    request.model_spec.name, request.model_spec.signature_name = "hqgnn", signature
    rows, width = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    wanted = {
        "recommend": ["user_id", "k", "exclude_item_id", "category"],
        "recommend_for_history": ["history_item_id", "k", "exclude_item_id", "category"],
        "similar_items": ["item_id", "k"],
        "tf_example": ["examples"],
    }.get(signature, ["user_id"])
    for name in wanted:
        shape = [] if name == "k" else [rows, width] if name.startswith(("exclude", "history")) else [rows]
        if draw(st.integers(0, 9)) == 0:
            shape = draw(st.lists(st.integers(0, 3), max_size=3))
        proto = request.inputs[name]
        proto.dtype = types_pb2.DT_INT32 if name == "k" else types_pb2.DT_STRING
        count = 1
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
            count *= size
        if name == "k":
            proto.int_val.extend([draw(integers)] * count)
        else:
            ids = st.one_of(st.sampled_from([b"", b"u1", b"i7", b"film", b"\xff\xfe"]), st.binary(max_size=6))
            proto.string_val.extend(draw(st.lists(ids, min_size=count, max_size=count)))
    return request


@st.composite
def wild_requests(draw: Callable[..., Any]) -> predict_pb2.PredictRequest:
    """Any names, any tensors."""
    request = predict_pb2.PredictRequest(output_filter=draw(st.lists(names, max_size=2)))
    request.model_spec.name = draw(st.one_of(st.just("hqgnn"), names))
    request.model_spec.signature_name = draw(st.one_of(st.sampled_from(SIGNATURES), names))
    for name in draw(st.lists(st.one_of(st.sampled_from(INPUTS), names), max_size=4)):
        request.inputs[name].CopyFrom(draw(tensors()))
    return request


@st.composite
def grpc_inputs(draw: Callable[..., Any]) -> tuple[str, bytes]:
    """`(method, content)`: a request, sometimes damaged, or any bytes."""
    method = draw(st.one_of(st.just(METHODS[0]), st.sampled_from(METHODS)))
    content = draw(st.one_of(whole_requests(), whole_requests(), wild_requests())).SerializeToString()
    kind = draw(st.integers(0, 9))
    if kind == 0:
        content = draw(st.binary(max_size=60))
    elif kind == 1 and content:
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + draw(st.binary(max_size=3)) + content[place + 1 :]
    return method, content


scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["u1", "i7", "film", "\ud800"]),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3))


values = st.recursive(scalars, _containers, max_leaves=12)
strings = st.sampled_from(["u1", "u7", "nobody", "i3", ""])


@st.composite
def whole_documents(draw: Callable[..., Any]) -> dict[str, Any]:
    """A request in JSON for a signature that is there; k and the rows' widths may be wrong."""
    signature = draw(st.sampled_from(SIGNATURES[:-1]))
    rows = draw(st.integers(1, 3))

    def row() -> Any:
        wishes = {
            "k": draw(integers),
            "exclude_item_id": draw(st.lists(strings, max_size=2)),
            "category": draw(strings),
        }
        return {
            "recommend": lambda: {"user_id": draw(strings), **wishes},
            "recommend_for_history": lambda: {"history_item_id": draw(st.lists(strings, max_size=2)), **wishes},
            "similar_items": lambda: {"item_id": draw(strings), "k": draw(integers)},
        }.get(signature, lambda: draw(strings))()

    found = [row() for _ in range(rows)]
    if not isinstance(found[0], dict):
        return {"signature_name": signature, draw(st.sampled_from(["instances", "inputs"])): found}
    columns = {name: [one[name] for one in found] for name in found[0]}
    if "k" in columns:
        columns["k"] = draw(integers)
    return {"signature_name": signature, "inputs": columns}


@st.composite
def wild_documents(draw: Callable[..., Any]) -> Any:
    """What looks like a request in JSON."""
    document: dict[str, Any] = {}
    if draw(st.booleans()):
        document["signature_name"] = draw(st.one_of(st.sampled_from(SIGNATURES), scalars))
    row = st.one_of(strings, values, st.dictionaries(st.sampled_from(INPUTS), st.one_of(strings, values), max_size=5))
    kind = draw(st.sampled_from(["instances", "inputs", "both", "none"]))
    if kind in ("instances", "both"):
        document["instances"] = draw(st.one_of(st.lists(strings, max_size=4), st.lists(row, max_size=4), values))
    if kind in ("inputs", "both"):
        document["inputs"] = draw(st.one_of(st.lists(strings, max_size=4), row))
    return document


@st.composite
def bodies(draw: Callable[..., Any]) -> bytes:
    """A body, sometimes no JSON."""
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        depth = draw(st.integers(1, 3000))
        return b'{"instances":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    text = json.dumps(draw(st.one_of(whole_documents(), wild_documents())), ensure_ascii=True)
    if kind == 2 and text:
        place = draw(st.integers(0, len(text) - 1))
        text = text[:place] + draw(st.text(max_size=2)) + text[place + 1 :]
    return text.encode("utf-8", "surrogatepass")


tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
header_values = st.one_of(
    st.sampled_from(["0", "5", "-1", "1e9", "99999999999999999999", "chunked", "identity", "close", "keep-alive",
                     "application/json", "100-continue", "localhost", "[::1]", "evil.example"]),
    st.text(st.characters(max_codepoint=255), max_size=30),
)  # fmt: skip
header_names = st.one_of(
    st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "Connection", "Content-Type", "Expect", "Upgrade"]),
    tokens,
)
targets = st.one_of(
    st.sampled_from(["/v1/models/hqgnn", "/v1/models/hqgnn:predict", "/v1/models/hqgnn/metadata", "*", "http://a/v1/x",
                     "/monitoring/prometheus/metrics", "/v1/models/%ff%00:predict", "/" + "x" * 20_000]),
    st.text(st.characters(max_codepoint=255), max_size=40),
)  # fmt: skip


@st.composite
def raw_inputs(draw: Callable[..., Any]) -> bytes:
    """Bytes for the REST port: what looks like HTTP, or doesn't."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=200))
    method = draw(
        st.one_of(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "CONNECT", "PRI"]), tokens)
    )
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "http/1.1"]))
    lines = [f"{method} {draw(targets)} {version}"]
    lines += [f"{draw(header_names)}: {draw(header_values)}" for _ in range(draw(st.integers(0, 6)))]
    end = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))
    head = (end.join(lines) + end + end).encode("latin-1")
    body = draw(st.one_of(st.just(b""), bodies(), st.just(b"5\r\nhello\r\n0\r\n\r\n"), st.binary(max_size=40)))
    return (head + body) * draw(st.sampled_from([1, 1, 1, 2]))


class Fuzzer:
    """Sends inputs to one server and judges the answers.

    Args:
      server: The server.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self._http: http.client.HTTPConnection | None = None
        self.counts: Counter[str] = Counter()
        self._right = self.right_answer()

    def over_grpc(self, one: tuple[str, bytes]) -> None:
        """A call of a method with any bytes."""
        method, content = one
        try:
            self._channel.unary_unary(f"/tensorflow.serving.{method}")(content, timeout=60)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        self.counts[f"gRPC {code.name}"] += 1
        assert code in DOCUMENTED_CODES, (method, content, code)

    def over_rest(self, body: bytes) -> None:
        """A call with any body."""
        self._http = self._http or http.client.HTTPConnection("127.0.0.1", self._server.rest_port, timeout=60)
        headers = {"Content-Type": "application/json"}
        try:
            self._http.request("POST", "/v1/models/hqgnn:predict", body, headers)
            response = self._http.getresponse()
            content = response.read()
        except (http.client.HTTPException, ConnectionError):
            self._http.close()
            self._http = None
            raise
        self.counts[f"REST {response.status}"] += 1
        assert response.status < 500 or response.status in DOCUMENTED_5XX, (body, response.status, content)
        answer = json.loads(content)
        assert response.status == 200 or list(answer) == ["error"], (body, answer)

    def over_socket(self, content: bytes) -> None:
        """Any bytes on the REST port, and then no more."""
        with socket.create_connection(("127.0.0.1", self._server.rest_port), timeout=60) as connection:
            answer = b""
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    answer += part
            except ConnectionError:
                pass  # What the server hasn't read resets the connection.
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "none"
        self.counts[f"socket {status}"] += 1
        assert not answer or answer.startswith(b"HTTP/1."), (content, answer[:200])
        assert not status.startswith("5") or int(status) in DOCUMENTED_5XX, (content, answer[:500])

    def check(self) -> None:
        """A right question still has the right answer, and the log tells of nothing unforeseen."""
        assert self.right_answer() == self._right
        assert self._server.faults() == []

    def right_answer(self) -> bytes:
        """What the server says of one user."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "hqgnn"
        request.inputs["user_id"].dtype = types_pb2.DT_STRING
        request.inputs["user_id"].tensor_shape.dim.add(size=1)
        request.inputs["user_id"].string_val.append(b"u1")
        call = self._channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        answer = predict_pb2.PredictResponse.FromString(call(request.SerializeToString(), timeout=60))
        return b"".join(answer.outputs["item_id"].string_val)

    def close(self) -> None:
        """Ends the connections."""
        self._channel.close()
        if self._http is not None:
            self._http.close()


def send(fuzzer: Fuzzer, inputs: int, first_seed: int) -> None:
    """Sends so many inputs of each kind; an input that fails is made small and shown."""
    for kind, (strategy, ask) in enumerate(
        ((grpc_inputs(), fuzzer.over_grpc), (bodies(), fuzzer.over_rest), (raw_inputs(), fuzzer.over_socket))
    ):
        options = settings(
            max_examples=inputs,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        seed(first_seed + kind)(options(given(strategy)(ask)))()


def run(folder: Path, inputs: int, first_seed: int = 0, rounds: int = 10) -> Counter[str]:
    """Sends `inputs` inputs in all to a new server.

    Returns:
      How many answers of each kind there were.

    Raises:
      AssertionError: An answer was wrong, or something has grown.
    """
    write_version(folder / "export", 1, seed=1)
    with ServerProcess(folder / "export", folder / "log") as server:
        fuzzer = Fuzzer(server)
        for number in range(rounds):
            send(fuzzer, max(1, inputs // rounds // 3), first_seed + 10 * number)
            fuzzer.check()
            if number == 0:
                before = server.usage()
        grown = server.settled_usage(before).exceeds(before, slack_mebibytes=32)
        assert not grown, grown
        fuzzer.close()
        assert server.process.poll() is None
    return fuzzer.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), options.inputs, options.seed)
    for name, count in sorted(counts.items()):
        print(f"{count:8,d}  {name}")
    print(f"{sum(counts.values()):8,d}  inputs in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
