"""What `tf-hqgnn batch` costs beside the model itself: `python -m benchmarks.batch --model EXPORT_DIR/hqgnn/1`.

The bare model is a loop over `tf.saved_model.load(..).signatures["recommend"]`, ids in, arrays out, at the best of
several batch sizes. Both answer the model's own users and, to last long enough, made-up ids: the model does the same
work for those. The time of a run is that of the whole run, minus that of the same run over one user: what starts a
pipeline and loads a model isn't the throughput. It is printed, too, and so is the processor time of what runs in one
process, which says more on a machine with other work. All are medians of rounds that take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import describe_run
from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.export.layout import USER_IDS
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.stored import StoredModel

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.

BATCH_SIZES = (128, 256, 512, 1024, 2048)
K = 10


def user_ids(model: Path, num_users: int) -> list[bytes]:
    """`num_users` ids, first those of the model."""
    known = StoredModel(model).read(USER_IDS)
    return [*known[:num_users].tolist(), *(b"made up %d" % n for n in range(num_users - len(known)))]


def loop(recommend: object, ids: list[bytes], batch_size: int) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(ids), batch_size):
        part = ids[first : first + batch_size]
        outputs = recommend(  # type: ignore[operator]
            user_id=tf.constant(part),
            k=tf.constant(K),
            exclude_item_id=tf.zeros([len(part), 0], tf.string),
            category=tf.fill([len(part)], ""),
        )
        for tensor in outputs.values():
            tensor.numpy()
    return time.perf_counter() - start, time.process_time() - cpu


def run_batch(model: Path, users: Path, flags: list[str]) -> tuple[float, float]:
    """Seconds of the command, the interpreter's start left out, and of its own process on the processor."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.batch", "--run", folder, "--model", str(model)]
        command += ["--users", str(users), *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    seconds, cpu = map(float, done.stdout.split())
    return seconds, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="a version that `tf-hqgnn export` wrote")
    parser.add_argument("--num-users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tf-threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--suffix", default=".parquet", help=argparse.SUPPRESS)
    options, flags = parser.parse_known_args()
    if options.run:
        quieten_beam()
        from tf_hqgnn.beam.batch import batch

        start, cpu = time.perf_counter(), time.process_time()
        batch(
            str(options.model),
            options.users,
            str(options.run / f"out{options.suffix}"),
            flags,
            lambda _: None,
            k=K,
            num_shards=8,
            tf_threads=options.tf_threads,
        )
        print(time.perf_counter() - start, time.process_time() - cpu, flush=True)
        os._exit(0)
    print(describe_run("benchmarks.batch"))
    ids = user_ids(options.model, options.num_users)
    recommend = load_saved_model(options.model).signatures["recommend"]
    loop(recommend, ids[:4096], 512)
    two = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    one = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    ways = {
        "one worker, all cores, Parquet": [],
        "one worker, all cores, TFRecord": ["--suffix", ".tfrecord"],
        "one worker process, 1 thread": ["--tf-threads", "1", *one],
        "two worker processes, 1 thread each": ["--tf-threads", "1", *two],
    }
    bare: dict[int, list[tuple[float, float]]] = {size: [] for size in BATCH_SIZES}
    whole: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    start: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        many, single = Path(folder, "many.txt"), Path(folder, "one.txt")
        many.write_bytes(b"\n".join(ids))
        single.write_bytes(ids[0])
        for _ in range(options.rounds):
            for size in BATCH_SIZES:
                bare[size].append(loop(recommend, ids, size))
            for name, extra in ways.items():
                whole[name].append(run_batch(options.model, many, extra))
                start[name].append(run_batch(options.model, single, extra))
    rates = {size: len(ids) / np.median(times, axis=0) for size, times in bare.items()}
    best, best_cpu = np.max(list(rates.values()), axis=0)
    for size, (rate, cpu) in rates.items():
        print(f"bare model, batches of {size:4d}: {rate:8,.0f} users/s, {cpu:8,.0f} users a processor's second")
    for name in ways:
        total, fixed = np.median(whole[name], axis=0), np.median(start[name], axis=0)
        rate, cpu = len(ids) / (total - fixed)
        share = f"{rate:8,.0f} users/s, {rate / best:4.0%} of the best bare"
        # Worker processes aren't this one's children, so their time isn't in it.
        by_cpu = "" if "process" in name else f" ({cpu / best_cpu:4.0%} by processor time)"
        print(f"{name:36}: {share}{by_cpu}; {fixed[0]:4.1f} s to start, {total[0]:5.1f} s in all")


if __name__ == "__main__":
    main()
