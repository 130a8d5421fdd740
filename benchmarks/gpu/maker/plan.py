"""Which programs are made, the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from benchmarks.gpu.maker import graphs
from benchmarks.gpu.maker import search as ways
from benchmarks.gpu.maker import training as steps
from benchmarks.gpu.maker.program import Definition, Source, drawn
from benchmarks.gpu.maker.propagation import Graph, product, solution
from benchmarks.gpu.maker.search import Search, search
from benchmarks.gpu.maker.training import Training, dense, training_step
from benchmarks.gpu.runner.draws import Draw
from tf_hqgnn.graph.interaction_graph import InteractionGraph

BATCHES = (32, 1, 1024)
_SMALL = 70_000
_PLANES = (ways.FOUR_BITS_PLANES, ways.TWO_BITS_PLANES, ways.ONE_BIT_PLANES, ways.ONE_BY_ONE)
_CHECKED_STEPS = (steps.ALIGNMENT, steps.SOFTMAX, dense(steps.ALIGNMENT), steps.HQ_BPR, steps.HQ_SOFTMAX)
_LEVELS = (ways.FLOAT32, ways.BYTES, ways.FOUR_BITS, ways.TWO_BITS, ways.ONE_BIT)


@dataclass
class Plan:
    """What a folder of programs is made of.

    Args:
      definitions: in the order in which they should run.
      graphs: files to write, by name.
      drawings: functions that draw what isn't `draws.Draw`, by group.
    """

    definitions: list[Definition] = field(default_factory=list)
    graphs: dict[str, InteractionGraph] = field(default_factory=dict)
    drawings: dict[str, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]] = field(default_factory=dict)

    def graph(self, name: str, graph: InteractionGraph) -> Graph:
        """A graph that travels in a file."""
        file = f"{name.split(',')[0].lower().replace(' ', '-')}.npz"
        self.graphs[file] = graph
        return Graph(name, graph.num_nodes, 2 * graph.num_edges, file, graph)

    def drawn_graph(self, name: str, num_users: int, num_items: int, num_edges: int, dim: int) -> Graph:
        """A graph that the device draws."""
        graph = Graph(name, num_users + num_items, 2 * num_edges)
        self.drawings[graph.group] = graphs.drawn_graph(num_users, num_items, num_edges, dim)
        return graph


def full() -> Plan:
    """The programs of the benchmark."""
    plan = Plan()
    gowalla = plan.graph(*reversed(graphs.gowalla()))
    hundred_million = plan.drawn_graph("generated, 100 million edges", 2_000_000, 1_000_000, 100_000_000, 64)
    plan.definitions += [copy(2**exponent) for exponent in (22, 24, 26, 28)]
    plan.definitions += _checked(plan, (*_LEVELS, *_PLANES), _CHECKED_STEPS)
    plan.definitions += list(_searches(1_000_000, 64, (32,)))
    plan.definitions += [training_step(step, 2_000_000, 64, 8192) for step in (steps.ALIGNMENT, steps.SOFTMAX)]
    plan.definitions += [product(gowalla, 64), solution(gowalla, 64)]
    plan.definitions += [training_step(steps.HQ_BPR, 2_000_000, 64, 8192)]
    plan.definitions += list(_searches(10_000_000, 64, (32,)))
    plan.definitions += list(_searches(1_000_000, 64, (1,)))
    plan.definitions += list(_searches(10_000_000, 64, (1,)))
    plan.definitions += [product(hundred_million, 64), solution(hundred_million, 64)]
    plan.definitions += [
        training_step(step, 2_000_000, 64, 8192) for step in map(dense, (steps.ALIGNMENT, steps.SOFTMAX))
    ]
    plan.definitions += [training_step(steps.HQ_SOFTMAX, 2_000_000, 64, 8192)]
    plan.definitions += list(_searches(1_000_000, 64, (1024,)))
    plan.definitions += list(_searches(10_000_000, 64, (1024,)))
    plan.definitions += list(_searches(1_000_000, 256, BATCHES))
    plan.definitions += list(_searches(10_000_000, 256, BATCHES))
    return plan


def tiny() -> Plan:
    """Programs of every kind that run in seconds, to try the whole way."""
    plan = Plan()
    some = (ways.FLOAT32, ways.BYTES, ways.FOUR_BITS, ways.TWO_BITS_PLANES, ways.ONE_BY_ONE)
    plan.definitions += [copy(2**20), *_checked(plan, some, (steps.SOFTMAX, steps.HQ_BPR))]
    plan.definitions += [search(ways.BYTES, _SMALL, 64, 1), search(ways.ONE_BY_ONE, _SMALL, 256, 32)]
    plan.definitions += [search(ways.FLOAT32, _SMALL, 64, 32)]
    plan.definitions += [
        training_step(step, 300, 16, 64) for step in (steps.ALIGNMENT, dense(steps.SOFTMAX), steps.HQ_BPR)
    ]
    drawn_graph = plan.drawn_graph("generated, 20,000 edges", 500, 300, 20_000, 8)
    middle = plan.graph("middle", graphs.generated(300, 200, 4000))
    plan.definitions += [product(drawn_graph, 8), solution(drawn_graph, 8), product(middle, 8), solution(middle, 8)]
    return plan


PLANS: dict[str, Callable[[], Plan]] = {"full": full, "tiny": tiny}


def copy(size: int) -> Definition:
    """Every bit of `size` integers turned over, in place: what reading and writing memory costs, and nothing else."""
    values = drawn("values", Draw("words", 50, (size,), "int64"), f"words {size}")

    def build() -> Source:
        values = tf.Variable(tf.zeros([size], tf.int64), trainable=False)

        def turn_over() -> None:
            values.assign(tf.bitwise.invert(values))

        return Source(turn_over, [], {"values": values})

    return Definition(
        name=f"copy {8 * size / 2**20:,.0f} MiB",
        kind="copy",
        settings={},
        inputs={"values": values},
        moved_bytes=16 * size,
        build=build,
    )


def _checked(plan: Plan, searched: Sequence[Search], trained: Sequence[Training]) -> Iterator[Definition]:
    """Small programs of every kind, whose answers must be TensorFlow's."""
    for way in searched:
        yield search(way, _SMALL, 64, 3, check=True)
    for step in trained:
        yield training_step(step, 300, 16, 128, check=True)
    small = plan.graph("small", graphs.generated(200, 150, 3000))
    yield product(small, 16, check=True)
    yield solution(small, 16, check=True)


def _searches(num_items: int, dim: int, batches: tuple[int, ...]) -> Iterator[Definition]:
    """All ways to search one size; ways of the same table one after the other, so that it is drawn once."""
    for batch in batches:
        # A single query goes by planes, as it does where it is served.
        levels = _LEVELS if batch > 1 else _LEVELS[:2]
        for way in sorted((*levels, *_PLANES), key=lambda way: -(way.item_bits or 32)):
            yield search(way, num_items, dim, batch)
