"""The graphs that are propagated over: a small file that travels, or one that the device draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from benchmarks.gpu.maker.drawing import counted, mixed
from benchmarks.gpu.runner.graph_file import write_graph
from benchmarks.timing import SHARED_DATA
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.synthetic import generate_log
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.types import Interactions

from tensorflow.compiler.tf2xla.python import xla  # isort: skip  (XLA's own sort, not a sort by top-k)

# Users, items and interactions of Gowalla's training split, for where the data isn't there.
_GOWALLA = (29_858, 40_981, 810_128)


def gowalla() -> tuple[InteractionGraph, str]:
    """Gowalla's training graph, or a generated one of its size, and what to call it."""
    path = SHARED_DATA / "gowalla" / "train.csv"
    if not path.exists():
        return generated(*_GOWALLA), "generated, of Gowalla's size"
    table = read_interactions(path)
    return InteractionGraph.from_interactions(table.interactions, len(table.user_ids), len(table.item_ids)), "Gowalla"


def generated(num_users: int, num_items: int, num_edges: int) -> InteractionGraph:
    """A graph of a generated log."""
    log = generate_log(num_users, num_items, num_edges, seed=1, timestamps=False)
    return InteractionGraph.from_interactions(Interactions(log.user_index, log.item_index), num_users, num_items)


def save(graph: InteractionGraph, path: Path) -> None:
    """Writes the file that `runner.graph_file.read_graph` reads."""
    write_graph(path, graph.user_degree, graph.indices, graph.num_items)


def drawn_graph(
    num_users: int, num_items: int, num_edges: int, dim: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """A function that draws a graph with degrees of a power law, and a vector that is known to be an eigenvector.

    Edge number n of E belongs to the user `floor(U (n / E)^2)` and to the item `floor(I x^2)`, x uniform: degrees fall
    as the root of the rank. An edge may be there twice, and then counts twice.

    Returns:
      `zero -> (rows, columns, factor, eigenvector)` as of `EdgeAdjacency`; the last, float32 [n, dim], has the roots of
      the degrees in each column, times another number in each: A times it is itself.
    """

    def draw(zero: tf.Tensor) -> tuple[tf.Tensor, ...]:
        number = counted(num_edges, zero)
        share = tf.cast(number, tf.float64) / float(num_edges)
        users = tf.cast(float(num_users) * (share * share), tf.int32)
        uniform = tf.cast(mixed(number, 41), tf.float64) * 2.0**-32
        items = tf.cast(float(num_items) * (uniform * uniform), tf.int32)
        pairs = tf.cast(items, tf.int64) * 2**32 + tf.cast(users, tf.int64)
        pairs = xla.sort(pairs)
        items_of = tf.cast(tf.bitwise.right_shift(pairs, tf.constant(32, tf.int64)), tf.int32) + num_users
        users_of = tf.cast(tf.bitwise.bitwise_and(pairs, tf.constant(2**32 - 1, tf.int64)), tf.int32)
        rows = tf.concat([users, items_of], axis=0)
        columns = tf.concat([items + num_users, users_of], axis=0)
        num_nodes = num_users + num_items
        degree = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, num_nodes)
        root = tf.sqrt(tf.cast(degree, tf.float32))
        scales = 1.0 + tf.range(dim, dtype=tf.float32) / float(dim)
        return rows, columns, tf.math.divide_no_nan(1.0, root), root[:, tf.newaxis] * scales

    return draw
