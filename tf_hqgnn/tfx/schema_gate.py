"""The component at which a run stops that isn't what a curated schema says: ExampleValidator alone only takes notes."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types.standard_artifacts import ExampleAnomalies

from tf_hqgnn.tfx.annotations import InputArtifact, component
from tf_hqgnn.types import InputError

# The generated modules have no types.
_anomalies: Any = anomalies_pb2
_schemas: Any = schema_pb2
_FILE = "SchemaDiff.pb"


@component
def SchemaGate(anomalies: InputArtifact[ExampleAnomalies]) -> None:
    """Stops the run if ExampleValidator found an anomaly in any split.

    Only of use with a curated schema: one that is inferred from the training split alone, as SchemaGen does, takes a
    small catalogue's items for all that there can be, and any new one in the test split for an anomaly.

    Args:
      anomalies: of ExampleValidator.

    Raises:
      InputError: The anomalies in words.
    """
    found = [
        f"{split.name.removeprefix('Split-')}: {problem}"
        for split in sorted(Path(anomalies.uri).iterdir())
        for problem in describe_anomalies((split / _FILE).read_bytes())
    ]
    if found:
        raise InputError(
            f"the log isn't what the schema says: {'; '.join(found)}; mend the log, or change the schema if this is "
            "how it is from now on"
        )


def describe_anomalies(serialized: bytes) -> list[str]:
    """The anomalies of one split in words, `COLUMN: SHORT (LONG)`.

    Args:
      serialized: TFDV's Anomalies.

    Raises:
      InputError: It is something else.
    """
    try:
        anomalies = _anomalies.Anomalies.FromString(serialized)
    except DecodeError as error:
        raise InputError("the output of ExampleValidator isn't TFDV's Anomalies; run it anew") from error
    infos = [(name, anomalies.anomaly_info[name]) for name in sorted(anomalies.anomaly_info)]
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("the split", anomalies.dataset_anomaly_info))
    return [f"{name}: {info.short_description} ({info.description.rstrip('. ')})" for name, info in infos]


def check_schema(path: Path) -> None:
    """Refuses a file that isn't a schema.

    Raises:
      InputError: It can't be read, isn't a Schema as text, or doesn't have both ids.
    """
    try:
        schema = text_format.Parse(path.read_text(encoding="utf-8"), _schemas.Schema())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a schema") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a schema as text ({' '.join(str(error).split())}); SchemaGen writes one"
        ) from error
    missing = {"user_id", "item_id"} - {feature.name for feature in schema.feature}
    if missing:
        raise InputError(f"{path}: no feature {' and '.join(sorted(missing))}; expected user_id and item_id")
