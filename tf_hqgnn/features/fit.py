"""Learning embeddings from features, once the embeddings are trained."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import tensorflow as tf

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.features.columns import Column, fit_columns
from tf_hqgnn.features.encoder import FeatureEncoder
from tf_hqgnn.features.model import FeatureModel, blend, chunks_of
from tf_hqgnn.features.ridge import Moments, choose_strength, held_out_rows, score_error
from tf_hqgnn.retrieval.histories import fit_hop_map, hop
from tf_hqgnn.types import BoolArray, Float32Array, Float64Array, Int64Array

# Fewer rows can't tell what features are worth.
MIN_ROWS = 10
# How many interactions features may be worth, and after how many each is tried on rows that were held out.
WORTHS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_FIRST_INTERACTIONS = (1, 2, 5, 10)


def fit_features(
    table: FeatureTable,
    rows: Float32Array,
    trained: BoolArray,
    others: Float32Array,
    neighbours: scipy.sparse.csr_matrix,
    seed: int = 0,
) -> FeatureModel | None:
    """Learns embeddings from features.

    A fifth of the trained rows chooses the strength of the ridge, and what features are worth beside a few
    interactions; then all of them are learnt from.

    Args:
      table: features of n users or items.
      rows: float32 [n, d], their embeddings.
      trained: bool [n], which of these were trained.
      others: float32 [m, d], embeddings of the other side.
      neighbours: [n, m], nonzero for who interacted with whom.
      seed: of the rows that are held out.

    Returns:
      The model; None where fewer than ten trained rows have features.
    """
    usable = np.flatnonzero(trained & table.known())
    if len(usable) < MIN_ROWS:
        return None
    learnt = table.take(usable)
    columns, _ = fit_columns(learnt)
    if not columns:
        return None
    encoder = FeatureEncoder(columns, _means(columns, learnt))
    held_out = held_out_rows(len(usable), seed)
    moments, _ = _moments(encoder, learnt.take(~held_out), rows[usable[~held_out]])
    chosen, metric = usable[held_out], _second_moments(others)
    rest, judged = _moments(encoder, learnt.take(held_out), rows[chosen], keep=True)
    strength, (weights, intercept) = choose_strength(moments, judged, rows[chosen], metric)
    worth = _choose_worth(judged @ weights + intercept, rows, chosen, others, neighbours, metric, seed)
    weights, intercept = (moments + rest).solve(strength)
    return FeatureModel(columns, encoder.means.numpy(), weights, intercept, strength, worth)


def first_rows(
    neighbours: scipy.sparse.csr_matrix, others: Float32Array, hop_map: Float32Array, count: int, seed: int
) -> Float32Array:
    """Rows as they would be after `count` interactions, drawn at random from `neighbours` [n, m]; float32 [n, d]."""
    rng = np.random.default_rng((seed, count))
    matrix = neighbours.tocsr().copy()
    places = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((rng.random(len(places)), places))
    rank = np.empty(len(places), np.int64)
    rank[order] = np.arange(len(places)) - matrix.indptr[:-1][places]
    matrix.data = (rank < count).astype(np.float32)
    matrix.eliminate_zeros()
    rows: Float32Array = hop(matrix, others) @ hop_map
    return rows


def _moments(
    encoder: FeatureEncoder, table: FeatureTable, rows: Float32Array, keep: bool = False
) -> tuple[Moments, Float32Array]:
    """The sums over some rows, and if asked for their encoded features."""
    empty = np.zeros((0, encoder.width), np.float32)
    total, kept, start = Moments.of(empty, rows[:0]), [empty], 0
    for pairs in chunks_of(table.pairs()):
        values = encoder.call(tf.constant(pairs, tf.string))[0].numpy()
        total = total + Moments.of(values, rows[start : start + len(values)])
        start += len(values)
        if keep:
            kept.append(values)
    return total, np.concatenate(kept)


def _means(columns: tuple[Column, ...], table: FeatureTable) -> Float32Array:
    """The mean of each encoded number over the rows where its column is known."""
    encoder = FeatureEncoder(columns)
    total, counts = np.zeros(encoder.width), np.zeros(len(columns))
    for pairs in chunks_of(table.pairs()):
        values, known = encoder.call(tf.constant(pairs, tf.string))
        total += values.numpy().sum(axis=0, dtype=np.float64)
        counts += known.numpy().sum(axis=0)
    means: Float32Array = (total / np.repeat(np.maximum(counts, 1), [column.width for column in columns])).astype(
        np.float32
    )
    return means


def _second_moments(rows: Float32Array) -> Float64Array:
    wide = rows.astype(np.float64)
    moments: Float64Array = wide.T @ wide / max(1, len(wide))
    return moments


def _choose_worth(
    predicted: Float32Array,
    rows: Float32Array,
    chosen: Int64Array,
    others: Float32Array,
    neighbours: scipy.sparse.csr_matrix,
    metric: Float64Array,
    seed: int,
) -> float:
    """What features are worth: the blend that comes nearest to the trained rows after 1, 2, 5 and 10 interactions."""
    hop_map = fit_hop_map(neighbours, others, rows)
    errors = np.zeros(len(WORTHS))
    degree = np.diff(neighbours[chosen].indptr)
    for count in _FIRST_INTERACTIONS:
        hopped = first_rows(neighbours[chosen], others, hop_map, count, seed)
        counts = np.minimum(count, degree)
        for place, worth in enumerate(WORTHS):
            errors[place] += score_error(blend(predicted, hopped, counts, worth), rows[chosen], metric)
    return WORTHS[int(errors.argmin())]
