"""The post-training graph ODE over graphs that no machine holds: `python -m tf_hqgnn.beam.propagation`.

The solution of dh/dt = A h + e is a power series sum_k c_k A^k e (`tf_hqgnn.ode.exact`; the Runge-Kutta solvers are
polynomials in A, too), here summed by Horner's rule: h <- A h + c_k e. With A = S B S, S = D^-1/2 and B the 0-1 matrix
of the edges, and g = S h, that is

    g <- S^2 (B g) + c_k S e,

so edges carry no weights but their own, if the log has any: B then holds these. Each product B g is a join of blocks
of g with the edges that start in them, and a sum by the blocks where those end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.flags import hangs_without_workers, is_direct, make_runner, parse_flags, split_passed
from tf_hqgnn.beam.graph_files import (
    EDGE_COLUMNS,
    ROW_COLUMNS,
    RowGroup,
    dimension,
    list_row_groups,
    write_run,
)
from tf_hqgnn.beam.places import alone, for_workers, reach
from tf_hqgnn.beam.propagation_steps import build
from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.beam.running import PipelineFailed, run_to_end
from tf_hqgnn.beam.series import coefficients
from tf_hqgnn.beam.sinks import check_name, delete_folder, read_json, write_bytes
from tf_hqgnn.beam.supervisor import run_supervised
from tf_hqgnn.beam.untrained_rows import fill_users
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.types import BoolArray, Float64Array, InputError

BLOCK_ROWS = 1 << 18
BLOCK_EDGES = 1 << 23

_PLAN = "plan.json"


@dataclass(frozen=True)
class Propagated:
    """What `propagate` did.

    Args:
      num_users: rows of users written.
      num_items: rows of items written.
      num_edges: distinct pairs.
      num_repeated: pairs that were in the files more than once.
      num_products: sparse products.
      seconds: from start to end.
    """

    num_users: int
    num_items: int
    num_edges: int
    num_repeated: int
    num_products: int
    seconds: float


def propagate(
    edges: str,
    users: str,
    items: str,
    out: str,
    series: Float64Array,
    normalize: bool = False,
    flags: Sequence[str] = (),
    block_rows: int = BLOCK_ROWS,
    block_edges: int = BLOCK_EDGES,
    untrained_users: BoolArray | None = None,
    say: Callable[[str], None] = print,
) -> Propagated:
    """Writes `OUT/users-*.parquet` and `OUT/items-*.parquet`, and last `OUT/report.json`.

    Until all of it is done, it is in `OUT.partial`, which a new run deletes if it finds it.

    Memory: a worker holds at most four blocks of `block_rows` rows, and about `block_edges` edges (4 bytes each in a
    product, 40 while repeated ones are found), whatever the size of the graph; so at the defaults and 64 dimensions,
    0.3 GB and 0.3 GB. What is between the steps is the runner's to
    hold: on disk for Flink, Spark and Dataflow, in memory for the direct runner.

    Args:
      edges: files (pattern) of the pairs, integer columns `user_index` and `item_index`; repeated pairs count once.
        With a column `weight`, above 0, they count by it, and repeated pairs by the sum.
      users: files of the trained rows of users: `index` (0 to U - 1, each once) and `embedding`, lists of d float32.
      items: the same of items.
      out: a folder that must not hold anything.
      series: c_0..c_K, of `coefficients`.
      normalize: whether rows are scaled to unit length first.
      flags: of Apache Beam.
      block_rows: rows of a block at most.
      block_edges: edges that meet a block at a time, about; where more are between two blocks, blocks are made smaller.
      untrained_users: bool [U], users that get the mean of all others' rows; None for none.
      say: shows a line of progress.

    Raises:
      InputError: A file or setting is wrong, or `out` isn't empty.
      PipelineFailed: A worker failed, or the runner.
    """
    start = time.monotonic()
    options = parse_flags(flags)
    out = reach("--out", for_workers(options, "--out", out.rstrip("/")), is_output=True)
    places = [
        reach(name, for_workers(options, name, pattern))
        for name, pattern in (("--edges", edges), ("--user-rows", users), ("--item-rows", items))
    ]
    check_name("--out", out)
    with alone(out):
        if FileSystems.match([f"{out}/*"])[0].metadata_list:
            raise InputError(f"--out {out} isn't empty, and nothing is overwritten: delete it, or choose another")
        plan = _Plan(places, f"{out}.partial", [float(one) for one in series], normalize, block_rows, block_edges)
        num_users, num_items, num_edges = plan.check()
        plan.save()
        if hangs_without_workers(options):
            run_supervised("propagation", plan.folder, flags, lambda: "all of it", say)
        else:
            plan.run(options)
        if untrained_users is not None:
            fill_users(plan.folder, untrained_users)
        distinct = read_json(f"{plan.folder}/edges.json")
        seconds = round(time.monotonic() - start, 3)
        done = Propagated(num_users, num_items, distinct, num_edges - distinct, len(series) - 1, seconds)
        _commit(plan.folder, out, done)
    return done


def run_folder(folder: str, options: PipelineOptions) -> None:
    """Runs the pipeline of a plan that was saved in a folder; what an earlier attempt has written there is deleted."""
    plan = _Plan(**read_json(f"{folder}/{_PLAN}"))
    plan.save()
    plan.run(options)


@dataclass(frozen=True)
class _Plan:
    """What is propagated, and `folder`, in which the output is until all of it is there."""

    places: list[str]
    folder: str
    series: list[float]
    normalize: bool
    block_rows: int
    block_edges: int

    def save(self) -> None:
        """Makes the folder anew, with the plan in it. What a killed run, or its workers, left there is deleted."""
        if FileSystems.exists(self.folder):
            delete_folder(self.folder)
        FileSystems.mkdirs(self.folder)
        write_bytes(f"{self.folder}/{_PLAN}", json.dumps(asdict(self)).encode())

    def check(self) -> tuple[int, int, int]:
        """Returns how many users, items and edges there are; raises InputError for files that can't be."""
        _, _, blocks, _ = self._parts
        return blocks.num_users, blocks.num_items, blocks.num_edges

    def run(self, options: PipelineOptions) -> None:
        """Runs the pipeline."""
        pipeline = beam.Pipeline(runner=make_runner(options), options=options)
        build(pipeline, *self._parts, np.array(self.series), self.normalize, self.folder)
        run_to_end(pipeline, self.folder)

    @cached_property
    def _parts(self) -> tuple[list[RowGroup], list[tuple[bool, RowGroup]], Blocks, int]:
        edges, users, items = self.places
        edge_groups, num_edges, _ = list_row_groups("--edges", edges, EDGE_COLUMNS)
        row_groups: list[tuple[bool, RowGroup]] = []
        sizes, dims = [], []
        for is_users, name, pattern in ((True, "--user-rows", users), (False, "--item-rows", items)):
            groups, num_rows, schema = list_row_groups(name, pattern, ROW_COLUMNS)
            row_groups += [(is_users, group) for group in groups]
            sizes.append(num_rows)
            dims.append(dimension(pattern, schema))
        if dims[0] != dims[1]:
            raise InputError(f"users have {dims[0]} dimensions, items {dims[1]}: they must have the same")
        blocks = Blocks.choose(sizes[0], sizes[1], num_edges, self.block_rows, self.block_edges)
        return edge_groups, row_groups, blocks, dims[0]


def _commit(folder: str, out: str, done: Propagated) -> None:
    """Gives the files their names, and writes the report last."""
    if not FileSystems.exists(out):
        FileSystems.mkdirs(out)
    names = [found.path for found in FileSystems.match([f"{folder}/*.parquet"])[0].metadata_list]
    FileSystems.rename(names, [f"{out}/{name.rpartition('/')[2]}" for name in names])
    write_bytes(f"{out}/report.json", json.dumps(asdict(done)).encode())
    delete_folder(folder)


@contextmanager
def _folder_for_input(options: PipelineOptions, out: str) -> Iterator[str]:
    """A folder that workers see, deleted at the end: in --temp_location, or else beside the output."""
    if is_direct(options):
        with tempfile.TemporaryDirectory() as local:
            yield local
        return
    temporary = options.view_as(GoogleCloudOptions).temp_location
    beside = f"{out.rstrip('/')}.input"
    folder = f"{temporary.rstrip('/')}/tf_hqgnn-{uuid.uuid4().hex}" if temporary else beside
    option = "--temp_location" if temporary else "--out"
    folder = reach(option, for_workers(options, option, folder), is_output=True)
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)
    try:
        yield folder
    finally:
        delete_folder(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exit code 2 for a mistake, which is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m tf_hqgnn.beam.propagation", allow_abbrev=False)
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a training run, with its propagation's settings")
    parser.add_argument("--edges", help="Parquet of user_index, item_index")
    parser.add_argument("--user-rows", help="Parquet of index, embedding")
    parser.add_argument("--item-rows", help="the same of items")
    parser.add_argument("--out", required=True, help="folder for users-*.parquet and items-*.parquet")
    parser.add_argument("--solver", help="none, euler, heun, rk4 or exact (default)")
    parser.add_argument("--t1", type=float)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--normalize", action="store_true", default=None, help="scale rows to unit length first")
    parser.add_argument("--block-rows", type=int, default=BLOCK_ROWS)
    parser.add_argument("--block-edges", type=int, default=BLOCK_EDGES)
    words, passed = split_passed(sys.argv[1:] if arguments is None else arguments)
    options, flags = parser.parse_known_args(words)
    flags += ["--", *passed] if passed else []
    quieten_libraries()
    quieten_beam()
    files = [options.edges, options.user_rows, options.item_rows]
    try:
        if (options.run is None) == (None in files) or (options.run and any(files)):
            raise InputError("say what to propagate: either --run RUN_DIR, or --edges, --user-rows and --item-rows")
        if min(options.block_rows, options.block_edges) < 1:
            raise InputError("--block-rows and --block-edges must be at least 1")
        with _folder_for_input(parse_flags(flags), options.out) as folder:
            untrained_users = None
            settings: dict[str, Any] = {
                "solver": "exact",
                "t1": 1.0,
                "num_steps": 1,
                "tolerance": 1e-6,
                "normalize": False,
            }
            if options.run is not None:
                of_run, untrained_users = write_run(options.run, folder)
                settings |= of_run
                files = [f"{folder}/{name}.parquet" for name in ("edges", "users", "items")]
            given = {name: value for name, value in vars(options).items() if name in settings and value is not None}
            settings |= given
            series = coefficients(*(settings[name] for name in ("solver", "t1", "num_steps", "tolerance")))
            sizes = options.block_rows, options.block_edges
            plan = series, settings["normalize"], flags, *sizes, untrained_users
            say = partial(print, file=sys.stderr)
            done = propagate(files[0], files[1], files[2], options.out, *plan, say=say)
    except InputError as error:
        print(f"tf_hqgnn.beam.propagation: {error}", file=sys.stderr)
        sys.exit(2)
    except PipelineFailed as error:
        print(f"tf_hqgnn.beam.propagation: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("tf_hqgnn.beam.propagation: interrupted; nothing of it is in --out", file=sys.stderr)
        sys.exit(130)
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
