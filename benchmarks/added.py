"""How long `tf-hqgnn add-items` takes for 1,000 items in a catalogue of a million, beside an export.

    python -m benchmarks.added [--items 1000000] [--bits 8] [--work W]

Exports both models of generated rows (as `benchmarks.included` does), and adds items that 8 users have taken each. The
time of both is that of this process, without its imports. "Copying" is a copy of the new version's files, synced to
the disk: what any way to make a version takes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.included import NUM_USERS, make_bundle, parse_arguments
from benchmarks.timing import describe_run
from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_bundle
from tf_hqgnn.export.layout import MODEL_NAMES, SCANN_MODEL, newest_version, read_metadata
from tf_hqgnn.export.new_items import add_items
from tf_hqgnn.files.durable import sync_tree
from tf_hqgnn.startup import collect_seldom

ADDED, TAKERS = 1000, 8


def measured(what: str, work: Callable[[], Any]) -> float:
    """Do some work, print its seconds, and return them."""
    start, before = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.1f} s, {time.process_time() - before:.1f} s of CPU time", flush=True)
    return seconds


def write_log(path: Path) -> None:
    """The first interactions of new items."""
    rng = np.random.default_rng(2)
    rows = [f"u{user},new{item}" for item in range(ADDED) for user in rng.choice(NUM_USERS, TAKERS, replace=False)]
    path.write_text("\n".join(["user_id,item_id", *rows]) + "\n", encoding="utf-8")


def copy_newest(export: Path, into: Path) -> None:
    """Copy the newest version of both models."""
    for name in MODEL_NAMES:
        shutil.copytree(newest_version(export, name), into / name)
    sync_tree(into)


def main() -> None:
    """Print what an export, an update and a copy take, and the recall of ScaNN's index before and after."""
    arguments = parse_arguments(__doc__)
    collect_seldom()
    print(describe_run("benchmarks.added"))
    with ExitStack() as stack:
        spare = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = arguments.work or spare / "export"
        if not (work / SCANN_MODEL).is_dir():
            bundle = make_bundle(arguments.items, arguments.bits)
            measured("export", lambda: export_bundle(lambda: bundle, work, ExportConfig(), RetrievalConfig()))
        before = read_metadata(newest_version(work, SCANN_MODEL))["recall@100"]
        write_log(spare / "new.csv")
        update = measured(f"add-items, {ADDED:,} items", lambda: add_items(work, spare / "new.csv"))
        copying = measured("copying", lambda: copy_newest(work, spare / "copy"))
        after = read_metadata(newest_version(work, SCANN_MODEL))["recall@100"]
        print(f"besides copying: {update - copying:.1f} s; recall@100 {before:.4f} before, {after:.4f} after")


if __name__ == "__main__":
    main()
