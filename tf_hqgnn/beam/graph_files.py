"""Edges and embeddings as Parquet files: what a run directory holds, for propagation over graphs of any size."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.places import find
from tf_hqgnn.data.parquet_file import open_parquet
from tf_hqgnn.types import BoolArray, Float32Array, InputError, Int64Array, IntArray

EDGE_COLUMNS = ("user_index", "item_index")
ROW_COLUMNS = ("index", "embedding")
# Of edges that don't all count the same.
WEIGHT_COLUMN = "weight"

# Rows that are in memory at a time while a file is read or written.
_BATCH_ROWS = 1 << 16
_WRITE_ROWS = 1 << 20


@dataclass(frozen=True)
class RowGroup:
    """A part of a Parquet file, which one worker reads."""

    path: str
    number: int


def list_row_groups(name: str, pattern: str, columns: tuple[str, str]) -> tuple[list[RowGroup], int, pa.Schema]:
    """The row groups of the files that `pattern` names, their rows together, and the schema of the first.

    Raises:
      InputError: There are no such files, or one isn't Parquet with these columns.
    """
    try:
        paths = sorted(found.path for found in find(pattern))
    except (BeamIOError, ValueError) as error:
        raise InputError(f"{name} {pattern}: {' '.join(str(error).split())}") from error
    if not paths:
        raise InputError(f"{name} {pattern}: no such file; expected Parquet with the columns {' and '.join(columns)}")
    groups: list[RowGroup] = []
    num_rows, schema = 0, None
    for path in paths:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
            file = open_parquet(handle, f"{name} {path}")
            schema = schema or file.schema_arrow
            missing = [column for column in columns if column not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{name} {path}: expected a column {missing[0]}, found {file.schema_arrow.names}")
            groups += [RowGroup(path, number) for number in range(file.num_row_groups)]
            num_rows += file.metadata.num_rows
    return groups, num_rows, schema


def dimension(pattern: str, schema: pa.Schema) -> int:
    """Of the embeddings.

    Raises:
      InputError: The column isn't a list of a fixed size.
    """
    kind = schema.field("embedding").type
    if not pa.types.is_fixed_size_list(kind):
        raise InputError(f"{pattern}: embedding is of type {kind}; expected a fixed-size list of float32")
    return int(kind.list_size)


def read_edges(group: RowGroup) -> Iterator[tuple[Int64Array, Int64Array, Float32Array | None]]:
    """Users and items, int64 [n] each, and float32 [n], their weights; None where the file has none."""
    for batch in _batches(group, EDGE_COLUMNS, WEIGHT_COLUMN):
        user, item = (batch.column(name).cast(pa.int64()).to_numpy() for name in EDGE_COLUMNS)
        weight: Float32Array | None = None
        if WEIGHT_COLUMN in batch.schema.names:
            weight = batch.column(WEIGHT_COLUMN).cast(pa.float32()).to_numpy()
            if not (weight > 0).all() or not np.isfinite(weight).all():
                raise InputError(f"{group.path}: expected finite weights above 0")
        yield user, item, weight


def read_rows(group: RowGroup) -> Iterator[tuple[Int64Array, Float32Array]]:
    """int64 [n] and float32 [n, d]: where rows belong, and the rows."""
    for batch in _batches(group, ROW_COLUMNS):
        values = batch.column("embedding").flatten().cast(pa.float32()).to_numpy()
        yield batch.column("index").cast(pa.int64()).to_numpy(), values.reshape(len(batch), -1)


def write_rows(path: str, index: IntArray, rows: Float32Array) -> None:
    """Writes rows; the file is there complete or not at all."""
    kind = pa.list_(pa.float32(), rows.shape[1])
    _write(path, [index, pa.FixedSizeListArray.from_arrays(rows.astype(np.float32).ravel(), type=kind)], ROW_COLUMNS)


def write_edges(path: str, user_index: IntArray, item_index: IntArray, weight: Float32Array | None = None) -> None:
    """Writes pairs, with their weights if they have any; the file is there complete or not at all."""
    columns = [user_index, item_index]
    if weight is None:
        _write(path, columns, EDGE_COLUMNS)
    else:
        _write(path, [*columns, weight], (*EDGE_COLUMNS, WEIGHT_COLUMN))


def write_run(run_dir: Path, folder: str) -> tuple[dict[str, Any], BoolArray]:
    """Writes `edges.parquet`, `users.parquet` and `items.parquet` of a training run: its graph and trained tables.

    Those of the model that is served: after a refit on the whole log, of that.

    Returns:
      The settings of its propagation, and bool [U], the users that no interaction has taught.

    Raises:
      InputError: `run_dir` isn't a finished run, has no trained tables, or its rows come from an encoder with a graph
        convolution.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.files.reading import read_json
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.runs.manifest import CURE, served_folder
    from tf_hqgnn.runs.tables import TrainedTables

    if not (run_dir / "metrics.json").is_file():
        raise InputError(f"{run_dir} is not the directory of a finished run (no metrics.json)")
    config = Config.load(run_dir / "config.yaml")
    if config.model.encoder_choice().convolves:
        raise InputError(f"{run_dir}: encoder {config.model.encoder} has convolved rows; only tables can be propagated")
    folder_of_model = served_folder(run_dir, read_json(run_dir / "metrics.json", cure=CURE))
    tables = TrainedTables.load(folder_of_model)
    graph = InteractionGraph.load(folder_of_model / "graph" / "graph.npz")
    users = np.repeat(np.arange(graph.num_users), graph.user_degree)
    write_edges(f"{folder}/edges.parquet", users, graph.indices, graph.weight)
    # Zeros stay zeros: that is what training makes of an item that no interaction has taught.
    for name, table in zip(("users", "items"), tables.filled()):
        write_rows(f"{folder}/{name}.parquet", np.arange(len(table)), table)
    return json.loads(config.propagation.model_dump_json()), tables.untrained().users


def _batches(group: RowGroup, columns: tuple[str, str], optional: str | None = None) -> Iterator[pa.RecordBatch]:
    with FileSystems.open(group.path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
        file = open_parquet(handle, group.path)
        wanted = [*columns, *(name for name in file.schema_arrow.names if name == optional)]
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group.number], columns=wanted):
            if any(column.null_count for column in batch.columns):
                raise InputError(f"{group.path}: a value of {' or '.join(wanted)} is null")
            yield batch


def _write(path: str, columns: list[Any], names: tuple[str, ...]) -> None:
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        pq.write_table(pa.table(dict(zip(names, columns))), file, row_group_size=_WRITE_ROWS)
    FileSystems.rename([temporary], [path])
