"""Loading SavedModels, with ScaNN's operations where a model needs them."""

from __future__ import annotations

import importlib
import os
import posixpath
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tf_hqgnn.export.layout import EXACT_MODEL, SAVED_MODEL_FILE
from tf_hqgnn.extras import how_to_install

_SCANN_OPERATIONS = "Scann>"
# What the export allows operations of: ScaNN's have its name before them.
CUSTOM_OPERATIONS = ("Scann",)

Folder = str | os.PathLike[str]


def load_saved_model(model_dir: Folder) -> Any:
    """`tf.saved_model.load`, after `import scann` if the model has ScaNN's operations.

    Args:
      model_dir: folder of a SavedModel, on any file system that TensorFlow can read.

    Raises:
      ValueError: The model can't be loaded.
      ImportError: The model needs ScaNN, which can't be imported; the message says how to install it.
    """
    if needs_scann(model_dir):
        import_scann(os.fspath(model_dir))
    try:
        return tf.saved_model.load(os.fspath(model_dir))
    except Exception as error:  # A broken SavedModel raises nearly anything.
        raise ValueError(f"{model_dir} can't be loaded: {' '.join(str(error).split())}") from error


def needs_scann(model_dir: Folder) -> bool:
    """Whether a SavedModel has operations of ScaNN, which `import scann` registers.

    Raises:
      ValueError: It isn't a SavedModel, or can't be read.
    """
    return any(uses_scann(meta_graph) for meta_graph in _read(model_dir).meta_graphs)


def is_compiled(model_dir: Folder) -> bool:
    """Whether XLA compiles functions of a SavedModel.

    Raises:
      ValueError: It isn't a SavedModel, or can't be read.
    """
    functions = (function for graph in _read(model_dir).meta_graphs for function in graph.graph_def.library.function)
    return any(function.attr["_XlaMustCompile"].b for function in functions if "_XlaMustCompile" in function.attr)


def uses_scann(meta_graph: meta_graph_pb2.MetaGraphDef) -> bool:
    """Whether a graph has operations of ScaNN, maybe in the body of a loop, which TensorFlow's own list leaves out."""
    graph = meta_graph.graph_def
    bodies = (graph.node, *(function.node_def for function in graph.library.function))
    return any(node.op.startswith(_SCANN_OPERATIONS) for body in bodies for node in body)


def import_scann(model: str) -> None:
    """Registers the operations of ScaNN.

    Args:
      model: what needs them, as the message names it.

    Raises:
      ImportError: ScaNN can't be imported; the message says how to install it.
    """
    try:
        importlib.import_module("scann")
    except ImportError as error:
        raise ImportError(
            f"{model} searches with ScaNN, which can't be imported here ({error}): {how_to_install('scann')}, or take "
            f"the model {EXACT_MODEL}, which needs stock TensorFlow only"
        ) from error


def _read(model_dir: Folder) -> saved_model_pb2.SavedModel:
    path = posixpath.join(os.fspath(model_dir), SAVED_MODEL_FILE)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return saved_model_pb2.SavedModel.FromString(file.read())
    except tf.errors.NotFoundError as error:
        raise ValueError(f"{model_dir} is not a SavedModel: expected the file {SAVED_MODEL_FILE} in it") from error
    except tf.errors.OpError as error:
        raise ValueError(f"{path} can't be read: {' '.join(str(error.message).split())}") from error
    except DecodeError as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from error
