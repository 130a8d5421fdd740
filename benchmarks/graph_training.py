"""How near a training step with a graph convolution is to its sparse products: `python -m benchmarks.graph_training`.

The number of products is counted in the traced step, forward and backward. That many products, chained, then take turns
with whole steps as `fit` runs them (batches and negatives, loss, gradients, Adam) and with the parts of a step.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import SHARED_DATA, describe_run, interleaved
from tf_hqgnn.config import Config
from tf_hqgnn.data.datasets import training_batches
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import sparse_product
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.models.hqgnn import HQGNN

import tensorflow as tf  # isort: skip

_DATA = {
    "beauty": {"path": str(SHARED_DATA / "beauty" / "interactions.csv")},
    "gowalla": {
        "train_path": str(SHARED_DATA / "gowalla" / "train.csv"),
        "test_path": str(SHARED_DATA / "gowalla" / "test.csv"),
        "split": {"valid": 0.0},
    },
}
_ENCODERS = ("lightgcn", "ngcf")
_PRODUCT_OP = "SparseMatrixMatMul"


def count_products(model: HQGNN, batch: dict[str, tf.Tensor]) -> int:
    """Sparse products in one training step, in the graph and in the functions that it calls."""
    graph = tf.function(model.train_step).get_concrete_function(batch).graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in graph.library.function}

    def count(nodes: Any) -> int:
        total = 0
        for node in nodes:
            total += node.op == _PRODUCT_OP
            if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                total += count(functions[node.attr["f"].func.name])
        return total

    return count(graph.node)


def repeated(function: Callable[[], tf.Tensor], times: int) -> Callable[[], None]:
    """Runs `function` several times and waits for the last result."""

    def run() -> None:
        for _ in range(times):
            result = function()
        np.asarray(result)

    return run


def with_processor_time(function: Callable[[], object], seconds: list[float]) -> Callable[[], None]:
    """`function`, which also notes the processor time of every run: other work on the machine hardly changes that."""

    def run() -> None:
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)

    return run


def measure(name: str, encoder: str, batch_size: int, repetitions: int, steps: int) -> None:
    """Prints one row."""
    config = Config.model_validate(
        {
            "data": _DATA[name],
            "model": {"encoder": encoder},
            "loss": {"name": "bpr", "weight_decay": 1e-4},
            "training": {"batch_size": batch_size, "steps_per_execution": steps},
        }
    )
    dataset = load_dataset(config.data, config.seed)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    model = make_model(config, graph)
    batches = iter(training_batches(dataset.train, dataset.num_items, batch_size, config.seed, 0, 1))
    batch = next(batches)
    num_products = count_products(model, batch)
    train_steps = model.make_train_function()
    adjacency = graph.normalized_adjacency()
    rows = tf.random.stateless_normal([graph.num_nodes, config.model.embedding_dim], (0, 0))

    @tf.function
    def products() -> tf.Tensor:
        h = rows
        for _ in range(num_products):
            h = sparse_product(adjacency, h)
        return h[0, 0]

    @tf.function
    def gradients() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        # The sum of a number of each keeps every gradient in the graph.
        found = (tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, model.trainable_variables))
        return tf.add_n([gradient[0, 0] for gradient in found])

    zeros = [tf.zeros_like(variable) for variable in model.trainable_variables]

    @tf.function
    def update() -> tf.Tensor:
        model.optimizer.apply_gradients(zip(zeros, model.trainable_variables))
        return tf.identity(model.optimizer.iterations)

    candidates = {
        "products": repeated(products, steps),
        "step": lambda: np.asarray(train_steps(batches)["loss"]),
        "gradients": repeated(gradients, steps),
        "update": repeated(update, steps),
        "batches": repeated(lambda: next(batches)["user_index"], steps),
    }
    processor: dict[str, list[float]] = {key: [] for key in candidates}
    timed = {key: with_processor_time(candidate, processor[key]) for key, candidate in candidates.items()}
    best = {key: values.min() / steps * 1e3 for key, values in interleaved(timed, repetitions).items()}
    # The first run of each compiles.
    best_processor = {key: min(values[1:]) for key, values in processor.items()}
    print(f"{name:8} {encoder:9}{graph.num_nodes:7,}{graph.num_edges:9,}{num_products:9}", end="")
    print(f"{best['products'] / num_products:8.2f}{best['products']:8.1f}{best['step']:8.1f}", end="")
    print(f"{best['step'] / best['products']:7.2f}{best_processor['step'] / best_processor['products']:7.2f}", end="")
    print("".join(f"{best[part]:10.1f}" for part in ("gradients", "update", "batches")), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=_DATA, default=list(_DATA))
    parser.add_argument("--encoder", nargs="+", choices=_ENCODERS, default=list(_ENCODERS))
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--repetitions", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="in one repetition")
    arguments = parser.parse_args()
    print(describe_run("benchmarks.graph_training"))
    print(
        f"3 layers, 64 dimensions, bpr, batch {arguments.batch_size}; best ms of {arguments.repetitions} turns", end=""
    )
    print(f" of {arguments.steps} steps each; ratio: step / all products, CPU: the same\nin processor time")
    columns = {"nodes": 7, "edges": 9, "products": 9, "one": 8, "all": 8, "step": 8, "ratio": 7, "CPU": 7}
    columns |= {"gradients": 10, "update": 10, "batches": 10}
    print(f"{'data':8} {'encoder':9}" + "".join(f"{key:>{width}}" for key, width in columns.items()))
    for name in arguments.data:
        for encoder in arguments.encoder:
            measure(name, encoder, arguments.batch_size, arguments.repetitions, arguments.steps)


if __name__ == "__main__":
    main()
