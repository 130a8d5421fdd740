"""The parts that the jobs of a path left, put together to a run directory like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.path.prepare import Prepared
from tf_hqgnn.beam.path.rows import Served, table_rows
from tf_hqgnn.beam.path.work import Work, read_arrays, read_table
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.items import ItemCatalogue
from tf_hqgnn.data.loading import make_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import Array, Float32Array, InputError, Interactions, ObjectArray

# Of memory while a run directory is put together: bytes of an interaction, of an id, and of a value of a row.
_PAIR_BYTES, _ID_BYTES, _VALUE_BYTES = 80, 150, 16


def check_fits(prepared: Prepared, dim: int, memory: int) -> None:
    """Refuses to put together a run directory that is larger than this machine's memory.

    Args:
      prepared: the log in blocks.
      dim: columns of a row.
      memory: bytes.

    Raises:
      InputError: It says how much is needed, and where the parts are.
    """
    blocks = prepared.blocks
    rows = blocks.num_users + blocks.num_items
    needed = blocks.num_edges * _PAIR_BYTES + rows * (_ID_BYTES + dim * _VALUE_BYTES)
    if needed > memory:
        raise InputError(
            f"--runner: all steps are done, but the run directory needs about {needed / 1e9:,.0f} GB of memory to be "
            f"put together, and this machine has {memory / 1e9:,.0f} GB: give the same command with --resume on a "
            "larger one, or take the answers of --recommendations"
        )


def dataset_of(work: Work, prepared: Prepared, items: ItemCatalogue | None, items_name: str) -> SplitDataset:
    """The dataset of a path, in memory: 30 bytes an interaction, and the ids.

    Args:
      work: where the files are.
      prepared: the log in blocks.
      items: what is known of items; None for nothing.
      items_name: what messages call them.
    """
    pairs = _sorted(_tables(work.path("blocks", "pairs-*.parquet")), "user_index", "item_index")
    user, item, part = (pairs[name].to_numpy() for name in ("user_index", "item_index", "part"))
    time = pairs["timestamp"].to_numpy() if prepared.has_time else None
    weight: Array | None = pairs["weight"].to_numpy()
    if weight is not None and (weight == 1).all():
        weight = None
    sets = _sorted(_tables(work.path("number", "sets-*.parquet")), "user", "item")
    kinds = {name: sets.filter(pa.compute.equal(sets["set"], name)) for name in ("disliked", "taken")}
    disliked = _pairs(kinds["disliked"]) if len(kinds["disliked"]) else None
    taken = None
    if prepared.has_taken:
        taken = _pairs(kinds["taken"])
    user_ids, item_ids = (_ids(work, name) for name in ("user_id", "item_id"))
    interactions = Interactions(user, item, time, weight)
    table = InteractionTable(user_ids, item_ids, interactions, None, prepared.report, disliked, taken)
    return make_dataset(table, part, items, items_name, "check data.items_path")


def gathered(blocks: Blocks, dim: int, read: Callable[[int], Float32Array]) -> tuple[Float32Array, Float32Array]:
    """The rows of all blocks, float32 [U, dim] and [I, dim].

    Args:
      blocks: how users and items are cut.
      dim: columns.
      read: the rows of a block.
    """
    tables = [np.zeros((size, dim), np.float32) for size in (blocks.num_users, blocks.num_items)]
    for block in range(blocks.num_blocks):
        tables[0 if blocks.is_users(block) else 1][blocks.index(block)] = read(block)
    return tables[0], tables[1]


def tables_of(folder: str, served: Served) -> tuple[Float32Array, Float32Array]:
    """The rows before any propagation, float32 [U, dim] and [I, dim]."""
    return gathered(served.blocks, served.dim, lambda block: table_rows(folder, served.blocks, block))


def codes_of(served: Served) -> CodedEmbeddings | None:
    """The codes of all rows; None where they are served in full precision."""
    if served.bits[1] is None:
        return None
    blocks = served.blocks
    sides: list[Codes | Float32Array] = []
    for is_users, size in ((True, blocks.num_users), (False, blocks.num_items)):
        own = [block for block in range(blocks.num_blocks) if blocks.is_users(block) == is_users]
        bits = served.bits[0 if is_users else 1]
        if bits is None:
            rows, _ = gathered(blocks, served.dim, lambda block: _fitted(served, block))
            sides.append(rows)
            continue
        arrays: dict[str, Any] = {}
        for block in own:
            codes = served.codes(block)
            assert codes is not None
            for name in ("packed", "scale", "offset"):
                values = getattr(codes, name)
                if values is None:
                    continue
                if len(values) == 1 and len(codes) != 1:
                    arrays[name] = values
                else:
                    arrays.setdefault(name, np.zeros((size, *values.shape[1:]), values.dtype))
                    arrays[name][blocks.index(block)] = values
        sides.append(Codes(arrays["packed"], arrays["scale"], arrays.get("offset"), bits, served.dim))
    assert isinstance(sides[1], Codes)
    return CodedEmbeddings(sides[0], sides[1])


def _fitted(served: Served, block: int) -> Float32Array:
    """The rows of a block in the range of the codes of the other side."""
    arrays = read_arrays(f"{served.folder}/rows-{block:05d}.npz")
    fitted: Float32Array = arrays["fitted" if "fitted" in arrays else "rows"]
    return fitted


def _ids(work: Work, name: str) -> ObjectArray:
    ids: ObjectArray = _tables(work.path("number", f"ids-{name}-*.parquet"))[name].to_numpy()
    return ids


def _tables(pattern: str) -> pa.Table:
    paths = sorted(metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list)
    return pa.concat_tables([read_table(path) for path in paths])


def _sorted(table: pa.Table, *names: str) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in names])


def _pairs(table: pa.Table) -> Interactions:
    return Interactions(table["user"].to_numpy(), table["item"].to_numpy())
