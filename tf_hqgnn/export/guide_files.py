"""What shows how to ask a version of a model: README.md, and a ready request for each signature."""

from __future__ import annotations

import base64
import json
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2

from tf_hqgnn.export.example_programs import TYPICAL_NAMES, example_programs
from tf_hqgnn.export.layout import GUIDE_FILE, READY_REQUESTS, SAVED_MODEL_FILE
from tf_hqgnn.export.signature_guide import LETTERS, SIGNATURES, markdown
from tf_hqgnn.export.warmup import Requests

_METHOD = "tensorflow.serving.PredictionService/Predict"
_RULES = """\
- TF Serving wants every input of a signature, even those that you don't need. For a list that you don't need, send one
  row with "" for the whole batch, `[[""]]`; for a `category`, `[""]`.
- Lists of different lengths in one request are padded with "" to the same length.
- An unknown ID is never an error: the flags `known_...` say which ones the model knows. An ID of more than 4,096 bytes
  is unknown.
- A wrong type, a wrong rank, or a `k` out of range is an error that names the input.
"""
_HEAD = """\
# How to ask this version of MODEL

This file was written with the model by `tf-hqgnn export`. The folder `requests/` beside it holds a request for each
signature that a server answers as it is: run the lines with `curl` here. `grpcurl` asks the server for its protos by
reflection, which `tf-hqgnn serve` has; for TF Serving, add `-import-path` and `-proto` with its
`prediction_service.proto`.
"""
_BUILDS = {
    "python": ("Python, in its own process", "python ask.py FOLDER USER"),
    "java": ("Java, in its own process", "java -cp 'tensorflow/*:.' Ask FOLDER USER"),
    "c": ("C, in its own process", "gcc -I$TF/include ask.c -o ask $TF/libtensorflow_cc.so.2 "
          "$TF/libtensorflow_framework.so.2 -Wl,-rpath,$TF && ./ask FOLDER USER"),
    "go": ("Go, by gRPC", "go run ask.go localhost:8500 USER"),
}  # fmt: skip


def write_guide(model_dir: Path, model: str, requests: Requests) -> None:
    """Write `assets.extra/README.md` and, for each signature, `assets.extra/requests/NAME.json`.

    Args:
      model_dir: the folder of a SavedModel.
      model: its name.
      requests: `(signature, inputs)`, of which the first of each signature is shown; others than the model's are not.
    """
    saved = saved_model_pb2.SavedModel.FromString((model_dir / SAVED_MODEL_FILE).read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    shown = {name: inputs for name, inputs in reversed(requests) if name in signatures}
    folder = model_dir / READY_REQUESTS
    folder.mkdir(parents=True, exist_ok=True)
    for name, inputs in shown.items():
        body = {"signature_name": name, "inputs": {key: _json(value) for key, value in inputs.items()}}
        (folder / f"{name}.json").write_text(json.dumps(body, ensure_ascii=False) + "\n", encoding="utf-8")
    text = f"{_HEAD.replace('MODEL', model)}\n{tables({name: _lines(model, name, shown[name]) for name in shown})}"
    if "recommend" in shown:
        signature = signatures["recommend"]
        tensors = (*signature.inputs.items(), *signature.outputs.items())
        text += "\n" + programs(model, {name: info.name for name, info in tensors})
    (model_dir / GUIDE_FILE).write_text(text, encoding="utf-8")


def tables(following: Mapping[str, str] | None = None) -> str:
    """The signatures as sections in Markdown.

    Args:
      following: what comes after the table of each signature to show; None shows all, with nothing.
    """
    shown = [guide for guide in SIGNATURES if following is None or guide.name in following]
    after = following or {}
    sections = [f"## {one.name}\n\n{one.about}\n\n{markdown(one)}{after.get(one.name, '')}" for one in shown]
    return "\n".join([f"{textwrap.fill(LETTERS, 120)}\n\n{_RULES}", *sections])


def programs(model: str, names: Mapping[str, str] = TYPICAL_NAMES) -> str:
    """The example programs as sections in Markdown."""
    parts = []
    for language, code in example_programs(model, names).items():
        title, command = _BUILDS[language]
        parts.append(f"## {title}\n\n```{language}\n{code}```\n\n```text\n{command}\n```\n")
    return "\n".join(parts)


def _lines(model: str, signature: str, inputs: Mapping[str, Any]) -> str:
    address = f"localhost:8501/v1/models/{model}:predict"
    curl = f"curl {address} -H 'Content-Type: application/json' -d @requests/{signature}.json"
    return f"\n```bash\n{curl}\n{grpcurl_line(model, signature, inputs)}\n```\n"


def grpcurl_line(model: str, signature: str, inputs: Mapping[str, Any]) -> str:
    """A command that asks a server on this machine by gRPC."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    body = json.dumps(json_format.MessageToDict(request))
    return f"grpcurl -plaintext -d {shlex.quote(body)} localhost:8500 {_METHOD}"


def _json(value: Any) -> Any:
    """An input as TF Serving's REST takes it."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray):
        return [_json(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    return [_json(one) for one in value] if isinstance(value, list) else value
