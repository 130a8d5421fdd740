"""Time and memory from one million interactions to a hundred: `python -m benchmarks.scale run --work DIR`, `report`.

Each size (users = size / 50, items = size / 200, 64 dimensions) has two processes of its own, so that a peak of memory
is its own: one generates the log and writes it as Parquet, the other does what a run does: reads, validates and splits
it, builds the graph, trains an epoch (configs/default.yaml), propagates, ranks the whole catalogue for 10,000 users.
A size that is done is a row of DIR/scale.csv and is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib
import numpy as np

from benchmarks.cells import ROOT, Cells, commit, machine
from tf_hqgnn import __version__

matplotlib.use("agg")
import matplotlib.pyplot as plt

# TensorFlow isn't imported before it is needed: generating a log has no use for its memory.
if TYPE_CHECKING:
    from tf_hqgnn.config import Config
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.models.hqgnn import HQGNN
    from tf_hqgnn.types import Interactions

STAGES = ("generate", "load", "graph", "model", "train", "propagate", "evaluate")
_EVALUATED_USERS = 10_000
# Batches whose steps are timed without the input pipeline.
_CACHED_BATCHES = 512
_ROUNDS = 4
_FIGURES = (
    "peak_gib",
    "bytes_per_interaction",
    "step_ms",
    "step_ms_without_input",
    "input_ms",
    "train_interactions_per_second",
    "ndcg@20",
)
_KEY = ("interactions", "overrides")
_COLUMNS = (
    *_KEY,
    "users",
    "items",
    "train_interactions",
    "batch_size",
    *(f"{stage}_seconds" for stage in STAGES),
    *(f"{stage}_cpu_seconds" for stage in STAGES),
    *(f"{stage}_peak_gib" for stage in STAGES),
    "peak_gib",
    "first_step_seconds",
    "step_ms",
    "step_ms_without_input",
    "input_ms",
    "train_interactions_per_second",
    "bytes_per_interaction",
    "ndcg@20",
    "version",
    "commit",
    "machine",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report", "generate", "measure"))
    parser.add_argument("--work", type=Path, required=True, help="folder of logs, scale.csv and the plot")
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e6, 1e7, 1e8], help="interactions")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of default.yaml")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sizes = [int(size) for size in arguments.sizes]
    if arguments.command == "generate":
        print(json.dumps(generate(sizes[0], _log_path(arguments.work, sizes[0]))))
    elif arguments.command == "measure":
        log, folder = _log_path(arguments.work, sizes[0]), arguments.work / str(sizes[0])
        print(json.dumps(measure(log, folder, tuple(arguments.set))))
    elif arguments.command == "run":
        for size in sizes:
            run(arguments.work, size, arguments.set)
    else:
        report(Cells(arguments.work / "scale.csv", _KEY, _COLUMNS), arguments.work / "scale.png")


def run(work: Path, size: int, overrides: list[str]) -> None:
    """Measures one size in processes of its own, unless it is done, and removes its files."""
    cells = Cells(work / "scale.csv", _KEY, _COLUMNS)
    key = {"interactions": size, "overrides": " ".join(overrides)}
    if key in cells:
        return
    found: dict[str, Any] = {"version": __version__, "commit": commit(), "machine": machine()}
    for command in ("generate", "measure"):
        options = [f"--work={work}", f"--sizes={size}", *(f"--set={override}" for override in overrides)]
        process = [sys.executable, "-m", "benchmarks.scale", command, *options]
        output = subprocess.run(process, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        found |= json.loads(output.splitlines()[-1])
        print(size, output.splitlines()[-1], flush=True)
    peak = max(found[f"{stage}_peak_gib"] for stage in STAGES)
    cells.add(key | found | {"peak_gib": peak, "bytes_per_interaction": round(peak * 2**30 / size, 1)})
    _log_path(work, size).unlink()


def _log_path(work: Path, size: int) -> Path:
    return work / f"{size}.parquet"


class Stages:
    """Seconds, processor seconds and peak resident memory of the stages of one process (Linux)."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the block; the peak is that of the block, with what was held before it."""
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        began, cpu_began = time.perf_counter(), time.process_time()
        yield
        self.values[f"{name}_cpu_seconds"] = round(time.process_time() - cpu_began, 3)
        self.values[f"{name}_seconds"] = round(time.perf_counter() - began, 3)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        self.values[f"{name}_peak_gib"] = round(int(status["VmHWM"].split()[0]) / 2**20, 3)
        print(f"{name}: {self.values[f'{name}_seconds']} s, {self.values[f'{name}_peak_gib']} GiB", file=sys.stderr)


def generate(size: int, path: Path) -> dict[str, float]:
    """Writes a log of `size` interactions."""
    from tf_hqgnn.data.synthetic import generate_log, write_log

    stages = Stages()
    with stages.stage("generate"):
        write_log(generate_log(max(size // 50, 1), max(size // 200, 1), size, seed=1), path)
    return stages.values


def measure(log: Path, folder: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """From the log to metrics, with the package's own pieces as `tf_hqgnn.training.train.train` puts them together."""
    import tf_keras

    from tf_hqgnn.config import Config
    from tf_hqgnn.data.datasets import steps_per_epoch
    from tf_hqgnn.data.loading import load_dataset
    from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
    from tf_hqgnn.graph.interaction_graph import InteractionGraph
    from tf_hqgnn.logs import quieten_libraries
    from tf_hqgnn.models.factory import make_model
    from tf_hqgnn.training.fitting import fit
    from tf_hqgnn.training.propagation import propagate_embeddings

    quieten_libraries()
    # Two in a hundred are held out: about one a user.
    chosen = (f"data.path={log}", "data.split.valid=0.02", "data.split.test=0", "training.max_epochs=1", *overrides)
    config = Config.load(ROOT / "configs" / "default.yaml", chosen)
    stages, clock = Stages(), _clock()
    with stages.stage("load"):
        dataset = load_dataset(config.data, config.seed)
    with stages.stage("graph"):
        graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    with stages.stage("model"):
        tf_keras.utils.set_random_seed(config.seed)
        model = make_model(config, graph)
    with stages.stage("train"):
        # Without metrics the epoch counts as the best: its weights are copied and checkpointed, as in a run.
        fit(model, dataset.train, graph, config.training, config.seed, dict, folder, (clock,))
    steps = steps_per_epoch(len(dataset.train), config.training.batch_size)
    step = (clock.end - clock.first) / max(steps - config.training.steps_per_execution, 1)
    with stages.stage("propagate"):
        users, items = propagate_embeddings(graph, *model.embeddings(), config.propagation)
    sample = np.random.default_rng(0).permutation(np.unique(dataset.valid.user_index))[:_EVALUATED_USERS]
    targets = dataset.valid.take(np.flatnonzero(np.isin(dataset.valid.user_index, sample)))
    with stages.stage("evaluate"):
        judged = evaluate_embeddings(users, items, targets, graph.seen(), graph.item_degree, config.evaluation.k)
    input_ms, without_input = _step_ms(model, dataset.train, graph, config)
    return stages.values | {
        "users": dataset.num_users,
        "items": dataset.num_items,
        "train_interactions": len(dataset.train),
        "batch_size": config.training.batch_size,
        "first_step_seconds": round(clock.first - clock.begin, 3),
        "step_ms": round(1000 * step, 3),
        "step_ms_without_input": round(without_input, 3),
        "input_ms": round(input_ms, 3),
        "train_interactions_per_second": round(config.training.batch_size / step),
        "ndcg@20": judged.values["ndcg@20"],
    }


def _clock() -> Any:
    """A Keras callback that notes when the epoch begins, when its first steps are done and when it ends."""
    import tf_keras

    class Clock(tf_keras.callbacks.Callback):
        begin = first = end = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.perf_counter()

        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            self.first = self.first or time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.end = time.perf_counter()

    return Clock()


def _step_ms(model: HQGNN, train: Interactions, graph: InteractionGraph, config: Config) -> tuple[float, float]:
    """Milliseconds of a batch of the input pipeline alone, and of a step on batches that are ready, best of _ROUNDS."""
    from tf_hqgnn.data.datasets import steps_per_epoch
    from tf_hqgnn.training.fitting import loss_batches

    dataset = loss_batches(model.batch_loss, train, graph, config.training.batch_size, config.seed)
    batches = iter(dataset)
    next(batches)  # the shuffle
    count = min(_CACHED_BATCHES, steps_per_epoch(len(train), config.training.batch_size))
    cached = dataset.take(count).cache()
    for _ in cached:
        pass
    began = time.perf_counter()
    for _ in range(count - 1):
        next(batches)
    input_ms = 1000 * (time.perf_counter() - began) / max(count - 1, 1)
    seconds = []
    for _ in range(_ROUNDS):
        clock = _clock()
        model.fit(cached.repeat(), epochs=1, steps_per_epoch=count, callbacks=[clock], verbose=0)
        seconds.append(clock.end - clock.first)
    return input_ms, 1000 * min(seconds) / max(count - config.training.steps_per_execution, 1)


def report(cells: Cells, plot: Path) -> None:
    """Prints the table as Markdown and draws the plot."""
    if not cells.rows:
        sys.exit("no sizes yet: `run` comes first")
    print(markdown(cells.rows))
    _draw(_sorted(cells.rows), plot)
    print(f"\n{plot}", file=sys.stderr)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The table: a column for each size, and one for each growth from the size before."""
    rows = _sorted(rows)
    sizes = [float(row["interactions"]) for row in rows]
    header = [f"{size:,.0f}" for size in sizes] + [f"growth to {size:,.0f}" for size in sizes[1:]]
    lines = [
        "Seconds (of CPU), peak GiB; growth is that of the seconds (of CPU) from the size before:",
        "",
        f"| | {' | '.join(header)} |",
        "| --- " * (1 + len(header)) + "|",
    ]
    for name, stages in {**{stage: (stage,) for stage in STAGES}, "from log to metrics": STAGES[1:]}.items():
        seconds, cpu = (
            np.array([sum(float(row[f"{stage}_{what}"]) for stage in stages) for row in rows])
            for what in ("seconds", "cpu_seconds")
        )
        memory = [max(float(row[f"{stage}_peak_gib"]) for stage in stages) for row in rows]
        texts = [f"{a:,.3g} ({b:,.3g}), {gib:.2f}" for a, b, gib in zip(seconds, cpu, memory)]
        growth = [f"{a:.1f} ({b:.1f})" for a, b in zip(seconds[1:] / seconds[:-1], cpu[1:] / cpu[:-1])]
        lines.append(f"| {name} | {' | '.join(texts + growth)} |")
    epochs = _epochs(rows)
    growth = [f"{ratio:.2f}" for ratio in epochs[1:] / epochs[:-1]]
    lines.append(f"| epoch, compiled | {' | '.join([f'{x:.3g}' for x in epochs] + growth)} |")
    for name in _FIGURES:
        values = np.array([float(row[name]) for row in rows])
        growth = [f"{ratio:.2f}" for ratio in values[1:] / values[:-1]]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join([f'{value:,.6g}' for value in values] + growth)} |")
    return "\n".join(lines)


def _sorted(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return sorted(rows, key=lambda row: float(row["interactions"]))


def _epochs(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Seconds of an epoch without its first steps, which compile."""
    return np.array([float(row["train_interactions"]) / float(row["train_interactions_per_second"]) for row in rows])


def _draw(rows: Sequence[Mapping[str, str]], plot: Path) -> None:
    sizes = np.array([float(row["interactions"]) for row in rows])
    epochs = _epochs(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for stage in STAGES:
        left.loglog(sizes, [float(row[f"{stage}_seconds"]) for row in rows], marker="o", label=stage)
    right.loglog(sizes, [float(row["peak_gib"]) for row in rows], marker="o", color="black", label="peak of all stages")
    right.axhline(20, color="red", linewidth=1, label="target")
    left.loglog(sizes, epochs, marker="x", linestyle="--", color="black", label="epoch, compiled")
    for axis, unit, anchor in ((left, "seconds", "train_seconds"), (right, "GiB", "peak_gib")):
        last = float(rows[-1][anchor])
        axis.loglog(sizes, last * sizes / sizes[-1], color="grey", linestyle=":", label="slope 1")
        axis.set_xlabel("interactions")
        axis.set_ylabel(unit)
        axis.legend(fontsize="small")
    figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
