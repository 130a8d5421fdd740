"""TF Serving's configuration files: protocol buffers in text format, read into plain settings.

Reference: TF Serving, config/{model_server_config,monitoring_config,ssl_config}.proto and
  servables/tensorflow/session_bundle_config.proto. tensorflow-serving-api ships only the first; the others are declared
  here, in a pool of their own, with the same names and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from tf_hqgnn.serving.batching import BatchingParameters
from tf_hqgnn.types import InputError

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"

_Field = descriptor_pb2.FieldDescriptorProto
_INT64 = ".google.protobuf.Int64Value"
# Message -> its fields in the order of their numbers: (name, type or type name).
_MESSAGES: dict[str, list[tuple[str, Any]]] = {
    "BatchingParameters": [
        ("max_batch_size", _INT64),
        ("batch_timeout_micros", _INT64),
        ("max_enqueued_batches", _INT64),
        ("num_batch_threads", _INT64),
        ("thread_pool_name", ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", _Field.TYPE_INT64),
        ("pad_variable_length_inputs", _Field.TYPE_BOOL),
    ],
    "PrometheusConfig": [("enable", _Field.TYPE_BOOL), ("path", _Field.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", ".tensorflow.serving.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", _Field.TYPE_STRING),
        ("server_cert", _Field.TYPE_STRING),
        ("custom_ca", _Field.TYPE_STRING),
        ("client_verify", _Field.TYPE_BOOL),
    ],
}
_REPEATED = {"allowed_batch_sizes"}


@dataclass(frozen=True)
class TlsKeys:
    """What a server proves itself with, and asks of its clients.

    Args:
      server_key: The private key, PEM.
      server_cert: The certificate chain, PEM.
      custom_ca: Certificates that client certificates are checked against, PEM; "" for none.
      client_verify: Whether a client must have a certificate (mutual TLS).
    """

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def read_model_configs(path: Path) -> list[model_server_config_pb2.ModelConfig]:
    """The models of a ModelServerConfig file; a relative base_path is taken from the file's folder.

    Raises:
      InputError: The file can't be read, isn't a ModelServerConfig, or lists no model.
    """
    config = _read(path, model_server_config_pb2.ModelServerConfig())
    if not config.model_config_list.config:
        raise InputError(
            f'{path}: expected model_config_list {{ config {{ name: ".." base_path: ".." }} }}, found none'
        )
    for model in config.model_config_list.config:
        if model.base_path:
            model.base_path = str(path.absolute().parent / model.base_path)
    return list(config.model_config_list.config)


def read_batching_parameters(path: Path) -> BatchingParameters:
    """The settings of a BatchingParameters file; what it doesn't name keeps its default, except padding, which is off.

    Raises:
      InputError: The file can't be read, or a value is out of range.
    """
    message = _read(path, _classes()["BatchingParameters"]())
    if message.allowed_batch_sizes:
        raise InputError(
            f"{path}: allowed_batch_sizes isn't supported: leave it out, any size up to the largest is used"
        )
    named = {field.name for field in fields(BatchingParameters)}
    given = {field.name: value.value for field, value in message.ListFields() if field.message_type is not None}
    settings = {name: value for name, value in given.items() if name in named}
    settings["pad_variable_length_inputs"] = message.pad_variable_length_inputs
    try:
        return BatchingParameters(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_monitoring_path(path: Path) -> str | None:
    """Where a MonitoringConfig file wants the Prometheus metrics; None if it doesn't enable them.

    Raises:
      InputError: The file can't be read, or the path doesn't begin with "/".
    """
    config = _read(path, _classes()["MonitoringConfig"]()).prometheus_config
    if not config.enable:
        return None
    if config.path and not config.path.startswith("/"):
        raise InputError(f'{path}: expected a path that begins with "/", got {config.path!r}')
    return str(config.path or PROMETHEUS_PATH)


def read_tls_keys(path: Path) -> TlsKeys:
    """The keys of an SSLConfig file: PEM text with escaped line ends, as TF Serving has it.

    Raises:
      InputError: The file can't be read, or lacks what it needs.
    """
    config = _read(path, _classes()["SSLConfig"]())
    for name in ("server_key", "server_cert"):
        if "-----BEGIN " not in getattr(config, name):
            raise InputError(f"{path}: {name}: expected a PEM text (-----BEGIN ..), not a file name or nothing")
    if config.client_verify and not config.custom_ca:
        raise InputError(f"{path}: client_verify needs custom_ca, the certificates to check clients against")
    return TlsKeys(config.server_key, config.server_cert, config.custom_ca, config.client_verify)


def _read(path: Path, message: Any) -> Any:
    name = message.DESCRIPTOR.name
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a {name} of TF Serving in text format: {error}") from error


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="tf_hqgnn.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, entries in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(entries, 1):
            label = _Field.LABEL_REPEATED if field in _REPEATED else _Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
        for name in _MESSAGES
    }
