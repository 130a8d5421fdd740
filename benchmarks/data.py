"""Ten million interactions generated, read, validated and split: seconds and peak memory, each step in its own process.

    python benchmarks/data.py [--interactions 10000000]

The peer is pandas, which only parses the file: no validation, no line numbers, no codes.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

PREPARE = "import resource, sys, time\npath, number = sys.argv[1], int(sys.argv[2])\n"
REPORT = """
usage = resource.getrusage(resource.RUSAGE_SELF)
print(f"{seconds:.1f} {usage.ru_utime + usage.ru_stime:.1f} {usage.ru_maxrss / 2**20:.2f}")
"""
GENERATE = """
from tf_hqgnn.data.synthetic import generate_log, write_log
start = time.perf_counter()
write_log(generate_log(number // 20, number // 100, number, seed=1), path)
seconds = time.perf_counter() - start
"""
LOAD = """
from tf_hqgnn.config import DataConfig, SplitConfig
from tf_hqgnn.data.loading import load_dataset
start = time.perf_counter()
dataset = load_dataset(DataConfig(path=path, k_core={k_core}, max_bad_rows=10, split=SplitConfig(method="{method}")), 1)
seconds = time.perf_counter() - start
print(dataset.report, "|", len(dataset.train), len(dataset.valid), len(dataset.test), file=sys.stderr)
"""
PANDAS = """
import pandas
start = time.perf_counter()
pandas.read_csv(path, dtype={"user_id": str, "item_id": str})
seconds = time.perf_counter() - start
"""


def run(name: str, code: str, path: Path, number: int) -> float:
    """Runs `code` in a fresh process, prints its time and peak resident memory, returns its CPU seconds."""
    arguments = [sys.executable, "-c", PREPARE + code + REPORT, str(path), str(number)]
    output = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, cpu_seconds, memory = map(float, output.split()[-3:])
    print(f"{name:36}{seconds:8.1f} s{cpu_seconds:8.1f} s of CPU (imports too){memory:8.2f} GiB peak", flush=True)
    return cpu_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    number = parser.parse_args().interactions
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cpu}, {cores} cores, load {load:.1f} before the start; Python {platform.python_version()}")
    print("python", " ".join(sys.argv))
    with tempfile.TemporaryDirectory() as folder:
        path, other, bad = (Path(folder) / name for name in ("log.csv", "log.parquet", "bad.csv"))
        run("generate, CSV", GENERATE, path, number)
        run("generate, Parquet", GENERATE, other, number)
        print(f"{number:,} interactions, {path.stat().st_size / 2**20:.0f} MiB of CSV")
        random = run("read, validate, split at random", LOAD.format(k_core=0, method="random"), path, number)
        run("  with 5-core", LOAD.format(k_core=5, method="random"), path, number)
        run("  leave_last_out", LOAD.format(k_core=0, method="leave_last_out"), path, number)
        run("  temporal", LOAD.format(k_core=0, method="temporal"), path, number)
        run("  from Parquet", LOAD.format(k_core=0, method="random"), other, number)
        text = path.read_bytes()
        middle = text.index(b"\n", len(text) // 2) + 1
        bad.write_bytes(text[:middle] + b'u,i\n,i,3\nu"5,"i"x,3\n' + text[middle:])
        del text
        run("  with three bad rows", LOAD.format(k_core=0, method="random"), bad, number)
        pandas = run("pandas.read_csv alone", PANDAS, path, number)
    print(f"read, validate and split takes {random / pandas:.2f} times the CPU that pandas takes to parse")


if __name__ == "__main__":
    main()
