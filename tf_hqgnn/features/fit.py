"""Learning embeddings from features, once the embeddings are trained."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.features.columns import Column, fit_columns
from tf_hqgnn.features.encoder import FeatureEncoder
from tf_hqgnn.features.model import FeatureModel, chunks_of
from tf_hqgnn.features.ridge import Moments, choose_strength, held_out_rows
from tf_hqgnn.types import BoolArray, Float32Array, Float64Array

# Fewer rows can't tell what features are worth.
MIN_ROWS = 10


def fit_features(
    table: FeatureTable,
    rows: Float32Array,
    trained: BoolArray,
    others: Float32Array,
    seed: int = 0,
) -> FeatureModel | None:
    """Learns embeddings from features.

    A fifth of the trained rows chooses the strength of the ridge; then all of them are learnt from.

    Args:
      table: features of n users or items.
      rows: float32 [n, d], their embeddings.
      trained: bool [n], which of these were trained.
      others: float32 [m, d], embeddings of the other side, which scores are made with.
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
    chosen = usable[held_out]
    rest, judged = _moments(encoder, learnt.take(held_out), rows[chosen], keep=True)
    strength, _ = choose_strength(moments, judged, rows[chosen], _second_moments(others))
    weights, intercept = (moments + rest).solve(strength)
    return FeatureModel(columns, encoder.means.numpy(), weights, intercept, strength)


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
