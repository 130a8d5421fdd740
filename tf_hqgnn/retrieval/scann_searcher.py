"""One of ScaNN's indices as tensors in variables: trained, or with rows added to one that was trained before."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.extras import how_to_install
from tf_hqgnn.retrieval.indices.scann import BRUTE_FORCE_BELOW
from tf_hqgnn.retrieval.leaf_codes import LeafCodes
from tf_hqgnn.types import Array, Float32Array, IntArray

if TYPE_CHECKING:
    from tf_hqgnn.retrieval.scann import ScannSizing

# ScaNN's names of what it holds, in its order; what an index lacks is a scalar.
_STATE = (
    "scann_config",
    "serialized_partitioner",
    "datapoint_to_token",
    "ah_codebook",
    "hashed_dataset",
    "int8_dataset",
    "int8_multipliers",
    "dp_norms",
    "dataset",
)
# Of `LeafCodes`.
_THRESHOLD = 0.2


class Searcher(tf.Module):
    """An index of ScaNN; it becomes a resource of the session when it is first used.

    Args:
      tensors: what ScaNN holds, in the order of its own `ScannState`.
    """

    def __init__(self, tensors: Sequence[tf.Tensor | Array]) -> None:
        super().__init__(name="searcher")
        self._ops = scann_ops()
        self._state = self._ops.ScannState(tuple(tensors))
        # The resource is found again by its name. Left empty it becomes the node's, which is the same for every
        # searcher of a model, and all would answer from the one that was used first.
        self._shared_name = f"scann-{uuid.uuid4()}"

    @staticmethod
    def train(values: Float32Array, sizing: ScannSizing) -> Searcher:
        """The index of float32 [N, d], by leaves and hashes that are learnt from them."""
        ops = scann_ops()
        builder = ops.builder(values, num_neighbors=10, distance_measure="dot_product")
        builder = builder.tree(num_leaves=sizing.num_leaves, num_leaves_to_search=sizing.num_leaves_to_search)
        if len(values) < BRUTE_FORCE_BELOW:
            # ScaNN was asked for all the same. Not quantized, it would hold a second copy of the rows, in float32.
            builder = builder.score_brute_force(quantize=True)
        else:
            builder = builder.score_ah(min(2, values.shape[1]), anisotropic_quantization_threshold=_THRESHOLD)
        return Searcher(ops.scann_to_tensors(builder.build().searcher_handle))

    @staticmethod
    def extend(
        before: Mapping[str, Array], place: IntArray, values_at: Callable[[IntArray | slice], Float32Array]
    ) -> Searcher:
        """The index of M rows by the leaves and hashes of an earlier one: those of the rows that it held are kept.

        Args:
          before: the state of the earlier one, of `read_state`.
          place: int [M], where it held each row; -1 for a row that is new to it.
          values_at: the rows at places below M, float32 [n, d].
        """
        new = np.flatnonzero(place < 0)
        rows, is_hashed = values_at(new), holds_hashes(before)
        codebook = before["ah_codebook"][0] if is_hashed else b""
        learnt = LeafCodes.parse(before["serialized_partitioner"][0], codebook, _THRESHOLD)
        leaves = learnt.leaves(rows)
        state = {**before, "datapoint_to_token": _extended(before["datapoint_to_token"], place, leaves)}
        if is_hashed:
            state["hashed_dataset"] = _extended(before["hashed_dataset"], place, learnt.hashes(rows, leaves))
        else:
            state["int8_dataset"], state["int8_multipliers"] = _to_int8(values_at(slice(None)))
        return Searcher([state[name] for name in _STATE])

    def search(self, queries: tf.Tensor, depth: tf.Tensor, num_leaves: int) -> tuple[tf.Tensor, tf.Tensor]:
        """ScaNN's own answer, `(distances, item_index)` [B, at most depth]; NaN and 0 where there is none."""
        state = self._state
        handle = self._ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._shared_name,
        )
        found = self._ops.ScannSearcher(handle).search_batched_parallel(
            queries, final_num_neighbors=depth, leaves_to_search=num_leaves
        )
        return tf.ensure_shape(found.distances, [None, None]), tf.ensure_shape(found.indices, [None, None])


def read_state(read: Callable[[str], Array], path: str) -> dict[str, Array]:
    """The state of a `Searcher` that is stored.

    Args:
      read: the value of a variable, by the attributes that lead there, with "/" between them.
      path: those that lead to the searcher.
    """
    return {name: np.asarray(read(f"{path}/_state/{name}")) for name in _STATE}


def holds_hashes(state: Mapping[str, Array]) -> bool:
    """Whether an index holds hashes of its rows; those of small catalogues hold 8-bit numbers instead."""
    return np.ndim(state["hashed_dataset"]) == 2


def scann_ops() -> Any:
    """ScaNN's operations.

    Raises:
      ImportError: ScaNN isn't installed; the message says how to install it.
    """
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise ImportError(
            f"the ScaNN index needs the package scann ({error}): {how_to_install('scann')}, or export the exact model "
            "only"
        ) from error
    return scann_ops


def _extended(before: Array, place: IntArray, new: Array) -> Array:
    """What an index holds of M rows: of those it had, from `place`, what it held; of the others, in order, `new`."""
    if len(before) + len(new) == len(place) and (place[: len(before)] == np.arange(len(before))).all():
        joined: Array = np.concatenate([before, new.astype(before.dtype)])
        return joined
    after: Array = before[np.maximum(place, 0)]
    after[place < 0] = new
    return after


def _to_int8(values: Float32Array) -> tuple[Array, Float32Array]:
    """8-bit numbers as ScaNN makes them, int8 [M, d], and what they were multiplied by, float32 [d]."""
    largest = np.abs(values).max(axis=0)
    scale = np.divide(np.float32(127), largest, out=np.ones_like(largest), where=largest > 0)
    return np.clip(np.round(values * scale), -128, 127).astype(np.int8), scale
