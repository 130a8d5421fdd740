import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.types.standard_artifacts import ExampleAnomalies

from tf_hqgnn.tfx.schema_gate import SchemaGate, check_schema, describe_anomalies
from tf_hqgnn.types import InputError

SCHEMA = """
feature { name: "user_id" type: BYTES presence { min_fraction: 1 min_count: 1 } }
feature { name: "item_id" type: BYTES presence { min_fraction: 1 min_count: 1 } }
feature { name: "timestamp" type: INT int_domain { min: 1 max: 99 } }
"""


def anomalies(schema, **columns):
    """As ExampleValidator writes them."""
    if not columns:
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        statistics.datasets.add().num_examples = 0
    else:
        table = pa.table(columns)
        statistics = tfdv.generate_statistics_from_dataframe(table.to_pandas(), n_jobs=1)
    found = tfdv.validate_statistics(statistics, text_format.Parse(schema, schema_pb2.Schema()))
    return found.SerializeToString()


def gate(folder, **splits):
    for name, content in splits.items():
        (folder / f"Split-{name}").mkdir()
        (folder / f"Split-{name}" / "SchemaDiff.pb").write_bytes(content)
    artifact = ExampleAnomalies()
    artifact.uri = str(folder)
    SchemaGate.test_call(anomalies=artifact)


def test_what_the_schema_says_passes_and_so_does_an_empty_split(tmp_path):
    good = anomalies(SCHEMA, user_id=["u"], item_id=["i"], timestamp=[5])
    gate(tmp_path, train=good, valid=anomalies(SCHEMA))


def test_every_anomaly_stops_the_run_in_words(tmp_path):
    train = anomalies(SCHEMA, user_id=["u"], item_id=["i"], timestamp=[500])
    test = anomalies(SCHEMA, user_id=["u"], item_id=[7], timestamp=[5])
    with pytest.raises(InputError) as error:
        gate(tmp_path, train=train, valid=anomalies(SCHEMA), test=test)
    message = str(error.value)
    assert "train: timestamp: Out-of-range values (Unexpectedly large value: 500)" in message
    assert "test: item_id: Unexpected data type (Expected data of type: BYTES but got INT)" in message
    assert message.endswith("change the schema if this is how it is from now on")


def test_a_column_that_is_gone_is_an_anomaly():
    (problem,) = describe_anomalies(anomalies(SCHEMA, user_id=["u"], timestamp=[5]))
    assert problem.startswith("item_id: Column dropped")


def test_something_else_than_anomalies_is_told():
    with pytest.raises(InputError, match="isn't TFDV's Anomalies; run it anew"):
        describe_anomalies(b"\xff\xff")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"schema.pbtxt: No such file or directory; expected a schema"),
        ("feature {", r"schema.pbtxt: not a schema as text \(.*\); SchemaGen writes one"),
        ('feature { name: "user_id" }', r"schema.pbtxt: no feature item_id; expected user_id and item_id"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "schema.pbtxt").write_text(text)
    with pytest.raises(InputError, match=message):
        check_schema(tmp_path / "schema.pbtxt")


def test_a_schema_is_accepted(tmp_path):
    (tmp_path / "schema.pbtxt").write_text(SCHEMA)
    check_schema(tmp_path / "schema.pbtxt")
