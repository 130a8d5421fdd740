"""What an `include_item_id` of 10,000 items costs in a catalogue of a million, beside a plain call.

    python -m benchmarks.included [--items 1000000] [--bits 8] [--work W]

Exports both models of generated rows of 64 numbers in clusters, and asks each for the 10 best items of one user: by
`recommend`, and by `recommend_where` among 10,000 items drawn at random. Both calls take turns, through the signatures
of the loaded model; the request is a tensor already, as it is where a server has decoded it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import describe_run, interleaved
from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_bundle
from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.quantization.codes import Codes

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.

K, INCLUDED, REPETITIONS = 10, 10_000, 200
NUM_USERS = 256
_DIM, _CENTRES = 64, 2_000


def make_bundle(num_items: int, bits: int | None) -> ServingBundle:
    """Generated items, and users who have seen 20 of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CENTRES, _DIM), dtype=np.float32)

    def around(count: int) -> np.ndarray:
        noise = rng.standard_normal((count, _DIM), dtype=np.float32)
        return centres[rng.integers(0, _CENTRES, count)] + np.float32(0.7) * noise

    items, users = around(num_items), around(NUM_USERS)
    seen = np.sort([rng.choice(num_items, 20, replace=False) for _ in users], axis=1)
    indptr = np.arange(0, seen.size + 1, 20, dtype=np.int64)
    return ServingBundle(
        user_ids=np.array([f"u{number}" for number in range(len(users))], object),
        item_ids=np.array([f"i{number}" for number in range(num_items)], object),
        users=users if bits is None else Codes.quantize(users, bits),
        items=items if bits is None else Codes.quantize(items, bits),
        seen=(indptr, seen.ravel().astype(np.int32)),
        item_popularity=rng.integers(1, 1000, num_items).astype(np.float32),
    )


def calls(root: Any, num_items: int) -> dict[str, Callable[[], object]]:
    """The calls to be timed, by their names."""
    rng = np.random.default_rng(1)
    chosen = tf.constant([[f"i{number}" for number in rng.choice(num_items, INCLUDED, replace=False)]])
    user, k, nothing, any_category = tf.constant(["u1"]), tf.constant(K), tf.fill([1, 1], ""), tf.constant([""])
    plain, where = root.signatures["recommend"], root.signatures["recommend_where"]
    options = {
        "exclude_item_id": nothing,
        "category": nothing,
        "exclude_category": nothing,
        "allow_seen": tf.constant([False]),
        "diversity": tf.constant([0.0]),
        "popularity": tf.constant([0.0]),
    }
    return {
        "recommend": lambda: plain(user_id=user, k=k, exclude_item_id=nothing, category=any_category),
        "recommend_where": lambda: where(user_id=user, k=k, include_item_id=nothing, **options),
        f"{INCLUDED:,} included": lambda: where(user_id=user, k=k, include_item_id=chosen, **options),
    }


def parse_arguments(description: str | None) -> argparse.Namespace:
    """The catalogue and the folder of its export, from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue")
    parser.add_argument("--bits", type=int, help="bits per value of an embedding; float32 by default")
    parser.add_argument("--work", type=Path, help="folder of the export, which is made unless it is there")
    return parser.parse_args()


def main() -> None:
    """Print the median of each call, and how many times a plain call that is."""
    arguments = parse_arguments(__doc__)
    print(describe_run("benchmarks.included"))
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (work / MODEL_NAMES[-1]).is_dir():
            bundle = make_bundle(arguments.items, arguments.bits)
            export_bundle(lambda: bundle, work, ExportConfig(), RetrievalConfig())
        for name in MODEL_NAMES:
            found = interleaved(calls(load_saved_model(work / name / "1"), arguments.items), REPETITIONS)
            base = float(np.median(found["recommend"]))
            for call, seconds in found.items():
                median = float(np.median(seconds))
                print(f"{name}, {call}: {1000 * median:.2f} ms, {median / base:.2f} times a plain call")


if __name__ == "__main__":
    main()
