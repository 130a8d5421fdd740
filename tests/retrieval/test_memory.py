"""What an answer takes: rows x (k + exclusions), however large the catalogue and whatever one row of the batch asks."""

import subprocess
import sys

import pytest

import tf_hqgnn  # noqa: F401

# In a process of its own: the high-water mark of this one is that of every test before.
PROGRAM = """
import numpy as np
import tf_hqgnn
import tensorflow as tf
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import SeenItems, block_any, block_listed
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.popular import PopularItems

N, D, B, K = 200_000, 64, 256, 10
rng = np.random.default_rng(0)
items = make_rows(Codes.quantize(rng.normal(size=(N, D)).astype(np.float32), 8))
users = make_rows(Codes.quantize(rng.normal(size=(B, D)).astype(np.float32), 8))
item_filter = ItemFilter(N, categories=[f"c{n % 20}" for n in range(N)])
popular = PopularItems(rng.integers(0, 99, N).astype(np.float32), item_filter)
# User 0 has seen a tenth of the catalogue.
indptr = np.concatenate([[0], np.full(B, N // 10)]).astype(np.int64)
seen = SeenItems(indptr, np.arange(N // 10, dtype=np.int32), N)
index = ExactTopK(items)


@tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.int64),
                              tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)], autograph=False)
def answer(user_index, excluded, category, k):
    blocked = block_any(seen.blocked(user_index), block_listed(excluded, N))
    blocked = blocked.within(item_filter, item_filter.wanted(category))
    queries = users.queries(tf.maximum(user_index, 0))
    return *index.call(queries, k, blocked), *popular.call(k, blocked, user_index < 0)


def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def ask(users, excluded=1, deep=0, category="", k=K):
    user_index = np.arange(1, B + 1) % B if users == "known" else np.full(B, users)
    listed = np.full((B, excluded), -1)
    listed[0, :deep] = np.arange(deep)
    categories = [""] * B
    if category:
        user_index[0], categories[0] = -1, category
    answer(tf.constant(user_index, tf.int64), tf.constant(listed, tf.int64), tf.constant(categories), tf.constant(k))


ask("known")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # The high-water mark begins anew.
before = peak()
ask("known", category="c3")
print("an unknown user who asks for a category:", peak() - before)
ask("known", excluded=500, deep=500)
print("one user with 500 exclusions:", peak() - before)
ask(0)
print("all have seen a tenth of the catalogue:", peak() - before)
ask(-1, k=256)
print("unknown users only:", peak() - before)
ask("known", k=256)
print("many answers:", peak() - before)
"""


@pytest.mark.integration
def test_no_mix_of_a_batch_takes_much_memory():
    """256 users, 200,000 items: scores of all items are 195 MiB, and were there up to ten times at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    mebibytes = {mix: float(number) for mix, _, number in (line.rpartition(":") for line in done.stdout.splitlines())}
    assert len(mebibytes) == 5
    assert max(mebibytes.values()) < 400, mebibytes
