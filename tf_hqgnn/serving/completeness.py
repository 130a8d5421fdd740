"""Whether all files of a SavedModel are there, as far as its own files say which those are.

A SavedModel that is copied `saved_model.pb` first loads without an error, and without values for its variables.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, tensor_bundle_pb2

from tf_hqgnn.export.layout import SAVED_MODEL_FILE

_VARIABLES = Path("variables")
_INDEX = "variables.index"
# The end of an SSTable, in which the index is kept: two handles padded to 40 bytes, then a magic number.
_FOOTER_BYTES, _HANDLE_BYTES = 48, 40
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)


class _NotWhole(Exception):
    """The file of variables' index ends too early."""


def what_is_missing(directory: Path) -> str | None:
    """The file that a SavedModel still lacks, and how much of it is there; None if all are whole.

    What can't be read is left to loading, which says why.
    """
    try:
        model = saved_model_pb2.SavedModel.FromString((directory / SAVED_MODEL_FILE).read_bytes())
    except FileNotFoundError:
        return SAVED_MODEL_FILE
    except (OSError, DecodeError):
        return None
    graphs = [graph for graph in model.meta_graphs if "serve" in graph.meta_info_def.tags]
    for asset in (asset for graph in graphs for asset in graph.asset_file_def):
        if _NAME.fullmatch(asset.filename) and not (directory / "assets" / asset.filename).exists():
            return f"assets/{asset.filename}"
    return _missing_variables(directory / _VARIABLES) if any(map(_has_variables, graphs)) else None


def _has_variables(graph: meta_graph_pb2.MetaGraphDef) -> bool:
    functions = (node for function in graph.graph_def.library.function for node in function.node_def)
    return any(
        node.op in ("VarHandleOp", "VariableV2") for nodes in (graph.graph_def.node, functions) for node in nodes
    )


def _missing_variables(variables: Path) -> str | None:
    index = variables / _INDEX
    try:
        content = index.read_bytes()
    except FileNotFoundError:
        return f"{_VARIABLES / _INDEX}"
    except OSError:
        return None
    try:
        sizes = _shard_sizes(content)
    except _NotWhole:
        return f"the rest of {_VARIABLES / _INDEX} ({len(content)} bytes are there)"
    except (DecodeError, IndexError):
        return None
    for number, size in enumerate(sizes):
        name = f"variables.data-{number:05d}-of-{len(sizes):05d}"
        try:
            present = (variables / name).stat().st_size
        except OSError:
            return f"{_VARIABLES / name}"
        if present < size:
            return f"the rest of {_VARIABLES / name} ({present} of {size} bytes are there)"
    return None


def _shard_sizes(index: bytes) -> list[int]:
    """The bytes of each data file, from the index of a checkpoint: an SSTable of BundleEntryProtos, its first a header.

    Reference: tensorflow/core/lib/io/format.h (blocks), tensorflow/core/protobuf/tensor_bundle.proto.
    """
    if len(index) < _FOOTER_BYTES or not index.endswith(_MAGIC):
        raise _NotWhole
    footer = index[-_FOOTER_BYTES:][:_HANDLE_BYTES]
    _, place = _varint(footer, 0)
    _, place = _varint(footer, place)
    offset, place = _varint(footer, place)
    size, _ = _varint(footer, place)
    sizes: list[int] = []
    for _, handle in _entries(index[offset : offset + size]):
        offset, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        for key, value in _entries(index[offset : offset + size]):
            if not key:
                sizes = [0] * tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards
                continue
            entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
            sizes[entry.shard_id] = max(sizes[entry.shard_id], entry.offset + entry.size)
    return sizes


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block; a key begins as the one before it does."""
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = len(block) - 4 - 4 * restarts, 0, b""
    while place < end:
        shared, place = _varint(block, place)
        rest, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
