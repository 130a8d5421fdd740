"""The sparse product A h, several ways, and how near the memory's limit: `python -m benchmarks.sparse_product`."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import scipy.sparse

from benchmarks.timing import SHARED_DATA, describe_run, interleaved
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import sparse_product

import tensorflow as tf  # isort: skip (after tf_hqgnn, which picks Keras 2)


def memory_bandwidth(megabytes: int = 256, repetitions: int = 15) -> float:
    """Bytes a second of a copy by every core (read + write), the best of some: STREAM's copy."""
    workers = os.cpu_count() or 1
    source = np.ones(megabytes * 2**20 // 8)
    target = np.zeros_like(source)
    parts = np.array_split(np.arange(len(source)), workers)
    slices = [slice(part[0], part[-1] + 1) for part in parts]
    with ThreadPoolExecutor(workers) as pool:
        copy = {"copy": lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), slices))}
        return 2 * source.nbytes / interleaved(copy, repetitions)["copy"].min()


def candidates(graph: InteractionGraph, h: tf.Tensor) -> dict[str, object]:
    """Each way to make A h, ready to be called."""
    adjacency = graph.normalized_adjacency()
    sparse = adjacency.to_sparse_tensor()
    rows, columns = tf.cast(sparse.indices[:, 0], tf.int32), tf.cast(sparse.indices[:, 1], tf.int32)
    coordinates = sparse.indices.numpy()
    matrix = scipy.sparse.csr_matrix((sparse.values.numpy(), coordinates.T), shape=sparse.shape)
    table = h.numpy()
    # As a training step has it; a function that can be saved makes the matrix from its entries in each call.
    constant = adjacency.as_constant()
    compiled = tf.function(lambda x: sparse_product(constant, x))
    savable = tf.function(lambda x: sparse_product(adjacency, x))
    return {
        "sparse_product (CSR op)": lambda: sparse_product(adjacency, h),
        "sparse_product, tf.function": lambda: compiled(h),
        "the same, which can be saved": lambda: savable(h),
        "tf.sparse.sparse_dense_matmul": lambda: tf.sparse.sparse_dense_matmul(sparse, h),
        "gather + segment_sum": lambda: tf.math.segment_sum(tf.gather(h, columns) * sparse.values[:, None], rows),
        "SciPy CSR": lambda: matrix @ table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=str(SHARED_DATA / "gowalla" / "train.csv"))
    parser.add_argument("--embedding-dim", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=40)
    arguments = parser.parse_args()
    print(describe_run("benchmarks.sparse_product"))
    table = read_interactions(arguments.data)
    graph = InteractionGraph.from_interactions(table.interactions, len(table.user_ids), len(table.item_ids))
    n, nonzeros, d = graph.num_nodes, 2 * graph.num_edges, arguments.embedding_dim
    h = tf.constant(np.random.default_rng(0).normal(size=(n, d)).astype(np.float32))
    ways = candidates(graph, h)
    reference = ways["SciPy CSR"]()
    for name, way in ways.items():
        np.testing.assert_allclose(way(), reference, rtol=1e-3, atol=1e-4, err_msg=name)
    seconds = interleaved(ways, arguments.repetitions)
    ours = seconds["sparse_product (CSR op)"]
    print(f"{n:,} nodes, {nonzeros:,} entries of A, {d} dimensions; {arguments.repetitions} runs each, in turns")
    print(f"{'':32}{'best ms':>9}{'median ms':>11}{'best/ours':>11}")
    for name, values in seconds.items():
        print(f"{name:32}{values.min() * 1e3:9.1f}{np.median(values) * 1e3:11.1f}{values.min() / ours.min():10.2f}x")

    bandwidth = memory_bandwidth()
    # Each operand once: the columns and values of A, its row pointers, h in, A h out.
    least = nonzeros * 8 + (n + 1) * 4 + 2 * n * d * 4
    # As if nothing of h stayed in a cache: a row of h for every entry of A.
    gathered = nonzeros * (8 + 4 * d) + (n + 1) * 4 + n * d * 4
    print(f"memory bandwidth (copy by all cores): {bandwidth / 1e9:.1f} GB/s")
    for name, size in (("every operand once", least), ("a row of h per entry", gathered)):
        limit = size / bandwidth
        print(f"{name:>22}: {size / 1e6:6.1f} MB, limit {limit * 1e3:5.1f} ms; ours {ours.min() / limit:.1f}x that")


if __name__ == "__main__":
    main()
