"""The config files of serving/, parsed as TF Serving parses them: text format, by its protos."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

SERVING = Path(__file__).resolve().parent.parent / "serving"
FIELD = descriptor_pb2.FieldDescriptorProto


def published(name: str, fields: dict[str, tuple[int, object]], messages: dict[str, dict] | None = None):
    """A message that tensorflow-serving-api doesn't ship, from its fields in TF Serving's repository: number and type.

    A type is a descriptor's constant, the name of a message, or a list of one of them for a repeated field.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="published", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for message_name, message_fields in {**(messages or {}), name: fields}.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind) in message_fields.items():
            field = message.field.add(name=field_name, number=number, label=FIELD.LABEL_OPTIONAL)
            if isinstance(kind, list):
                kind, field.label = kind[0], FIELD.LABEL_REPEATED
            if isinstance(kind, str):
                field.type, field.type_name = FIELD.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"published.{name}"))


INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
# tensorflow_serving/servables/tensorflow/session_bundle_config.proto
BatchingParameters = published(
    "BatchingParameters",
    {
        "max_batch_size": (1, INT64),
        "batch_timeout_micros": (2, INT64),
        "max_enqueued_batches": (3, INT64),
        "num_batch_threads": (4, INT64),
        "thread_pool_name": (5, STRING),
        "allowed_batch_sizes": (6, [FIELD.TYPE_INT64]),
        "pad_variable_length_inputs": (7, FIELD.TYPE_BOOL),
    },
)
# tensorflow_serving/config/monitoring_config.proto
MonitoringConfig = published(
    "MonitoringConfig",
    {"prometheus_config": (1, ".published.PrometheusConfig")},
    {"PrometheusConfig": {"enable": (1, FIELD.TYPE_BOOL), "path": (2, FIELD.TYPE_STRING)}},
)


def parse(text: str, message_class):
    return text_format.Parse(text, message_class())


@pytest.mark.parametrize(("file", "name"), [("models.config", "hqgnn"), ("models_scann.config", "hqgnn_scann")])
def test_a_server_has_its_one_model_with_loaded_labels(file, name):
    config = parse((SERVING / file).read_text(), model_server_config_pb2.ModelServerConfig)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, f"/models/{name}", "tensorflow")
    assert set(model.version_labels) == {"stable", "canary"}
    # `latest` would unload a labelled version at the next push but one.
    assert model.model_version_policy.WhichOneof("policy_choice") == "specific"
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


def batching_problems(config) -> list[str]:
    """Against the rules that the comments of session_bundle_config.proto state, and ours for padding."""
    sizes, problems = list(config.allowed_batch_sizes), []
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != config.max_batch_size.value):
        problems.append("allowed_batch_sizes must increase up to max_batch_size")
    if config.num_batch_threads.value < 1:
        problems.append("num_batch_threads must be at least 1")
    if config.max_enqueued_batches.value < 1:
        problems.append("the queue must be bounded, and hold something")
    # TF Serving pads with the first value of the tensor, which would exclude one user's items for another.
    if config.pad_variable_length_inputs:
        problems.append("padding mixes users")
    return problems


def test_batching_follows_the_rules_of_its_proto():
    text = (SERVING / "batching.config").read_text()
    config = parse(text, BatchingParameters)
    assert batching_problems(config) == []
    # As the comment in the file says for models that use XLA.
    sizes = " ".join(f"allowed_batch_sizes: {size}" for size in (1, 8, 64))
    assert batching_problems(parse(f"{text} {sizes}", BatchingParameters)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 32", "must increase up to max_batch_size"),
        ("allowed_batch_sizes: 64 allowed_batch_sizes: 8 allowed_batch_sizes: 64", "must increase"),
        ("num_batch_threads { value: 0 }", "at least 1"),
        ("max_enqueued_batches { value: 0 }", "bounded"),
        ("pad_variable_length_inputs: true", "padding mixes users"),
    ],
)
def test_batching_that_breaks_a_rule(text, problem):
    lines = (SERVING / "batching.config").read_text().splitlines()
    others = [line for line in lines if line.split(" ")[0] != text.split(" ")[0]]
    config = parse("\n".join([*others, text]), BatchingParameters)
    assert problem in "\n".join(batching_problems(config))


def test_prometheus_is_at_tf_servings_path():
    config = parse((SERVING / "monitoring.config").read_text(), MonitoringConfig)
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize(
    ("message_class", "text"),
    [
        (model_server_config_pb2.ModelServerConfig, 'model_config_list { config { nme: "hqgnn" } }'),
        (
            model_server_config_pb2.ModelServerConfig,
            'model_config_list { config { version_labels { key: "a" value: "b" } } }',
        ),
        (BatchingParameters, "max_batch_size: 64"),
        (BatchingParameters, "batch_timeout { value: 1 }"),
        (MonitoringConfig, "prometheus_config { enable: perhaps }"),
    ],
)
def test_what_tf_serving_would_refuse_is_refused(message_class, text):
    with pytest.raises(text_format.ParseError):
        parse(text, message_class)
