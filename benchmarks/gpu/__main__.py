"""Makes the programs for a GPU: `python -m benchmarks.gpu make | time-tensorflow`; run.py runs them."""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tf_hqgnn  # noqa: F401  (first: it chooses Keras 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="trace and compile the programs into a folder")
    making.add_argument("folder", type=Path)
    making.add_argument(
        "--plan", choices=("full", "tiny"), default="full", help="tiny: to try the whole way in a minute"
    )
    timing = commands.add_parser("time-tensorflow", help="time the programs that fit by TensorFlow on this CPU")
    timing.add_argument("folder", type=Path, help="of `make`; the times are added to its list")
    timing.add_argument("--seconds", type=float, default=120.0, help="for all of them")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder, arguments.plan)
    else:
        from benchmarks.gpu.maker.tensorflow_times import add_times

        add_times(arguments.folder, arguments.seconds)


def make(folder: Path, plan: str) -> None:
    """Makes a folder of programs, and says how large it is."""
    # That a gradient is made dense is the point of a dense optimizer.
    warnings.filterwarnings("ignore", message="Converting sparse IndexedSlices")
    from benchmarks.gpu.maker.folder import write
    from benchmarks.gpu.maker.plan import PLANS

    start = time.perf_counter()
    manifest = write(PLANS[plan](), folder, lambda _: None)
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = time.perf_counter() - start
    print(f"{len(manifest.programs)} programs in {folder}, {size / 2**20:.1f} MiB, made in {seconds:.0f} s")


if __name__ == "__main__":
    main()
