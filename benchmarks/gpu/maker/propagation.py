"""Propagation: the product with a graph's adjacency by segment sums, and the whole solution of dh/dt = A h + e."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from benchmarks.gpu.maker.program import Definition, Source, drawn, num_bytes
from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.graph_file import ARRAYS
from benchmarks.gpu.runner.manifest import Array
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import Adjacency, EdgeAdjacency, sparse_product
from tf_hqgnn.ode.exact import series_coefficients
from tf_hqgnn.ode.integrate import solve

# Gowalla's diffusion time in LightGODE's published settings, and the tolerance of the package's exact solver.
T1 = 3.0
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Graph:
    """A graph that programs run over.

    Args:
      name: in the table.
      num_nodes: n.
      num_entries: of the adjacency matrix, twice the edges.
      file: in the folder of programs; None if the device draws the graph.
      in_memory: the graph of the file, for TensorFlow on the CPU.
    """

    name: str
    num_nodes: int
    num_entries: int
    file: str | None = None
    in_memory: InteractionGraph | None = None

    @property
    def group(self) -> str:
        """What is drawn together on the device."""
        return f"graph {self.name}"

    def arrays(self, dim: int) -> dict[str, Array]:
        """`rows`, `columns` and `factor` as of `EdgeAdjacency`; the drawn graph's `eigenvector`, too."""
        sizes = {"rows": self.num_entries, "columns": self.num_entries, "factor": self.num_nodes}
        arrays = {}
        for number, name in enumerate(ARRAYS):
            source = {"from": "graph file", "file": self.file, "array": name}
            if self.file is None:
                source = {"from": "group", "group": self.group, "output": number}
            arrays[name] = Array((sizes[name],), "float32" if name == "factor" else "int32", name, source)
        if self.file is None:
            source = {"from": "group", "group": self.group, "output": len(ARRAYS)}
            arrays["eigenvector"] = Array((self.num_nodes, dim), "float32", "eigenvector", source)
        return arrays


def product(graph: Graph, dim: int, check: bool = False) -> Definition:
    """One product A h."""
    return _definition("product", graph, dim, 1, sparse_product, check)


def solution(graph: Graph, dim: int, check: bool = False) -> Definition:
    """The whole solution at T1, by the exact solver."""
    num_products = len(series_coefficients(T1, TOLERANCE)) - 1

    def solved(adjacency: Adjacency, h: tf.Tensor) -> tf.Tensor:
        return solve(adjacency, h, T1, "exact", tolerance=TOLERANCE)

    return _definition("solution", graph, dim, num_products, solved, check)


def _definition(what: str, graph: Graph, dim: int, num_products: int, compute: object, check: bool) -> Definition:
    arrays = graph.arrays(dim)
    # The solution over a graph that is too large for the host starts at a vector for which it is known.
    h = arrays.pop("eigenvector", None)
    if h is None or what == "product":
        h = drawn("h", Draw("normal", 40, (graph.num_nodes, dim), "float32"), f"h {graph.num_nodes} x {dim}")
    inputs = {array.name: array for array in (*arrays.values(), h)}

    def build() -> Source:
        def function(rows: tf.Tensor, columns: tf.Tensor, factor: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
            return compute(EdgeAdjacency(rows, columns, factor), h)

        return Source(function, list(inputs))

    def on_cpu() -> Source:
        adjacency = graph.in_memory.normalized_adjacency()
        return Source(lambda h: compute(adjacency, h), [h.name])

    read = num_bytes(arrays["rows"], arrays["columns"], arrays["factor"])
    passes = 2 if what == "product" else 3
    return Definition(
        name=f"{what}, {graph.name}, {graph.num_entries:,} entries x {dim}",
        kind="propagation",
        settings={"what": what, "graph": graph.name, "t1": T1, "num_products": num_products, "dim": dim},
        inputs=inputs,
        moved_bytes=num_products * (read + passes * num_bytes(h)),
        build=build,
        check_with_tensorflow=check,
        on_cpu=None if graph.in_memory is None else on_cpu,
    )
