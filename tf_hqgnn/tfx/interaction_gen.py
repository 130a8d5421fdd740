"""The pipeline's first component: a log becomes validated, split Examples, a catalogue and a report of the read."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
import shutil
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
from tfx.types.artifact_utils import encode_split_names
from tfx.types.experimental.simple_artifacts import Dataset, Metrics
from tfx.types.standard_artifacts import Examples

from tf_hqgnn.data.anomalies import check_files
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.tfx.annotations import BeamComponentParameter, OutputArtifact, Parameter, component
from tf_hqgnn.tfx.catalogue import write_catalogue, write_report
from tf_hqgnn.tfx.examples import SPLITS, examples_path, interaction_columns, serialize_examples
from tf_hqgnn.tfx.known_pairs import write_known_pairs
from tf_hqgnn.tfx.model_store import read_last_log
from tf_hqgnn.tfx.settings import read_data_settings

# Rows that a Beam worker turns into one bundle.
_ROWS_PER_GROUP = 65536


@component(use_beam=True)
def InteractionGen(
    examples: OutputArtifact[Examples],
    catalogue: OutputArtifact[Dataset],
    report: OutputArtifact[Metrics],
    config: Parameter[str],
    input_fingerprint: Parameter[str] = "",
    span: Parameter[int] = 0,
    version: Parameter[int] = 0,
    data_path: Parameter[str] = "",
    items_path: Parameter[str] = "",
    model_store: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Reads, validates, filters and splits the log that `config` names, and writes it with Beam.

    Args:
      examples: `Split-train`, `Split-valid`, `Split-test`, gzipped TFRecords of tf.Example.
      catalogue: titles, categories and availability of the items, as Parquet; no column where there is none. Beside
        it dislikes and what was taken, where that is more or less than the interactions.
      report: `report.json`, the count of rows read, kept, duplicate, filtered and bad.
      config: YAML of a `Config`; only `seed` and `data` count, so give only those, and the cache holds.
      input_fingerprint: changes when a file behind the paths does; TFX's cache can't see into files by itself.
      span: as in TFX's ExampleGen; where the log has spans, its latest counts.
      version: as in TFX's ExampleGen.
      data_path: in place of the config's `data.path`, unless ""; what an operator names when starting a run.
      items_path: in place of the config's `data.items_path`, unless "".
      model_store: folder of the pointer to the last blessed model, whose log this one must be like (see
        data.anomalies); "" compares with none.
      beam_pipeline: made by TFX from `beam_pipeline_args`.

    Raises:
      InputError: The log is not what DESIGN.md asks for, or isn't like the one before it.
    """
    settings = read_data_settings(config, data_path, items_path)
    dataset = load_dataset(settings.data, settings.seed)
    files = dataset.report.files
    last_log = read_last_log(Path(model_store)) if model_store else ()
    check_files(files[-1], last_log, settings.data.max_growth, settings.data.max_id_drift)
    write_catalogue(dataset, Path(catalogue.uri))
    write_known_pairs(dataset, Path(catalogue.uri))
    write_report(dataset, Path(report.uri))

    columns = Path(examples.uri) / ".columns"
    columns.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        pq.write_table(
            interaction_columns(dataset, split), columns / f"{split}.parquet", row_group_size=_ROWS_PER_GROUP
        )
    with beam_pipeline as pipeline:
        for split in SPLITS:
            _ = (
                pipeline
                | f"Read[{split}]" >> beam.io.ReadFromParquetBatched(str(columns / f"{split}.parquet"))
                | f"ToExamples[{split}]" >> beam.FlatMap(serialize_examples)
                | f"Write[{split}]"
                >> beam.io.WriteToTFRecord(
                    str(examples_path(examples.uri, split) / "data_tfrecord"), file_name_suffix=".gz"
                )
            )
    shutil.rmtree(columns)
    examples.split_names = encode_split_names(list(SPLITS))
    examples.span = span if files[-1].span is None else files[-1].span
    examples.version = version
    examples.set_string_custom_property("input_fingerprint", input_fingerprint)
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
