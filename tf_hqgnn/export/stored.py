"""What a SavedModel of ours holds. Nothing else knows how its variables are named in a checkpoint."""

from __future__ import annotations

import os
import posixpath

import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from tf_hqgnn.export.layout import VARIABLES
from tf_hqgnn.types import Array, InputError

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
# What TensorFlow's reader of checkpoints raises where bytes are missing or wrong.
_DAMAGED = (tf.errors.OpError, ValueError, IndexError, RuntimeError)
# In exports of version 0.1 every attribute was private, and these had other names, too.
_NAMES_OF_0_1 = {"keys": "_ids", "item_filter": "_filter", "hop_map": "_map"}


class StoredModel:
    """The variables of a SavedModel, found by the attributes of the objects that hold them.

    Args:
      model_dir: folder of a SavedModel, on any file system that TensorFlow can read.

    Raises:
      InputError: Its variables are missing or can't be read.
    """

    def __init__(self, model_dir: str | os.PathLike[str]) -> None:
        self._name = os.fspath(model_dir)
        path = posixpath.join(self._name, VARIABLES)
        try:
            self._reader = tf.train.load_checkpoint(path)
            self._graph = TrackableObjectGraph.FromString(self._reader.get_tensor(_GRAPH))
        except _DAMAGED as error:
            raise self._unreadable(error) from error

    def __contains__(self, path: str) -> bool:
        return self._key(path) is not None

    def read(self, path: str) -> Array:
        """The value of the variable at `path`, names joined by "/".

        Raises:
          InputError: There is none, or its bytes are damaged.
        """
        key = self._existing(path)
        try:
            value: Array = self._reader.get_tensor(key)
        except _DAMAGED as error:
            raise self._unreadable(error) from error
        return value

    def size(self, path: str) -> int:
        """The length of the variable at `path`, without reading it.

        Raises:
          InputError: There is none.
        """
        length: int = self._reader.get_variable_to_shape_map()[self._existing(path)][0]
        return length

    def below(self, path: str) -> list[str]:
        """The paths of all variables that the object at `path` holds, also by way of others; none if it isn't there."""
        found: list[str] = []

        def visit(node: TrackableObjectGraph.TrackableObject | None, name: str) -> None:
            if node is None:
                return
            found.extend(name for value in node.attributes if value.name == _VALUE)
            for child in node.children:
                visit(self._graph.nodes[child.node_id], f"{name}/{child.local_name}")

        visit(self._find(path), path)
        return found

    def length(self, path: str) -> int:
        """How many elements the list at `path` has; 0 if there is none."""
        node = self._find(path)
        return 0 if node is None else sum(child.local_name.isdecimal() for child in node.children)

    def _unreadable(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())
        return InputError(
            f"{self._name}: the variables of this SavedModel can't be read: {reason}; export the run again"
        )

    def _existing(self, path: str) -> str:
        key = self._key(path)
        if key is None:
            raise InputError(
                f"{self._name} has no variable {path}: expected a model that `tf-hqgnn export` wrote; export the run "
                "again"
            )
        return key

    def _key(self, path: str) -> str | None:
        node = self._find(path)
        attributes = [] if node is None else node.attributes
        return next((value.checkpoint_key for value in attributes if value.name == _VALUE), None)

    def _find(self, path: str) -> TrackableObjectGraph.TrackableObject | None:
        if not self._graph.nodes:
            return None
        node = self._graph.nodes[0]
        for name in path.split("/"):
            children = {child.local_name: child.node_id for child in node.children}
            place = children.get(name, children.get(_NAMES_OF_0_1.get(name, f"_{name}")))
            if place is None:
                return None
            node = self._graph.nodes[place]
        return node
