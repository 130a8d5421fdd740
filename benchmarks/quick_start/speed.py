"""Seconds until the first recommendation and of a thousand calls for one user each, on a generated log.

    .venv/bin/python -m benchmarks.quick_start.speed [--presets spectral default] [--interactions 100000]

TensorFlow is loaded before the clock starts; `import tf_hqgnn` is timed in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from collections.abc import Callable

import pandas as pd

from benchmarks.timing import describe_run
from tf_hqgnn import Recommender
from tf_hqgnn.data.synthetic import generate_log

IMPORT = "import time; t = time.perf_counter(); import tf_hqgnn; print(time.perf_counter() - t)"


def timed(what: str, work: Callable[[], object]) -> None:
    """Prints wall and CPU seconds."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    print(f"{what:50}{seconds:8.2f} s{cpu_seconds:8.2f} s of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["spectral", "default"])
    parser.add_argument("--interactions", type=int, default=100_000)
    arguments = parser.parse_args()
    print(describe_run("benchmarks.quick_start.speed"))
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    print(f"{'import tf_hqgnn':50}{float(done.stdout):8.2f} s")
    for module in ("tensorflow", "tf_keras"):
        importlib.import_module(module)
    generated = generate_log(arguments.interactions // 50, arguments.interactions // 100, arguments.interactions, 1)
    log = pd.DataFrame({"user_id": generated.user_index, "item_id": generated.item_index})
    for preset in arguments.presets:
        model = Recommender(preset, verbose=0)
        timed(f"{preset}: to the first recommendation", lambda model=model: model.fit(log).recommend([0], k=10))
        timed(f"{preset}: 1,000 calls", lambda model=model: [model.recommend([user % 1000]) for user in range(1000)])


if __name__ == "__main__":
    main()
