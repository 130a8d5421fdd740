"""Runs one snippet in this process: `python -m benchmarks.quick_start.measure SNIPPET LOG.csv OUT.csv`."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path

from benchmarks.quick_start.snippets import IMPORTS


def main() -> None:
    name, log_path, out = sys.argv[1:]
    snippet, imports = next((one, modules) for one, modules in IMPORTS.items() if one.__name__ == name)
    if name.startswith("tf_hqgnn"):
        importlib.import_module("tf_hqgnn")
    begin = time.perf_counter()
    for module in imports:
        importlib.import_module(module)
    imported = time.perf_counter()
    log = importlib.import_module("pandas").read_csv(log_path)
    start, cpu_start = time.perf_counter(), time.process_time()
    table = snippet(log)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    table[["user_id", "rank", "item_id"]].to_csv(out, index=False)
    found = {"import_seconds": imported - begin, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
