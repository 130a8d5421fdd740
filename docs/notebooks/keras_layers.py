# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Keras layers alone
#
# The parts of the model are Keras layers that you can use in a model of your own: propagation over the graph, and
# rounding to a few bits with a gradient. This notebook trains plain embeddings, and then asks what each layer brings.
#
# Set `TF_HQGNN_MOVIELENS` to a folder with `interactions.csv` and `items.csv` of
# [MovieLens 100K](https://grouplens.org/datasets/movielens/100k/) to see real films. Without it, a made-up log of the
# same kind is used.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tf_hqgnn.data.synthetic import generate_log, write_log

workspace = TemporaryDirectory()
folder = Path(os.environ.get("TF_HQGNN_MOVIELENS", workspace.name))
if not (folder / "interactions.csv").exists():
    write_log(generate_log(600, 500, 20_000, seed=1), folder / "interactions.csv", folder / "items.csv")
ids = {"user_id": str, "item_id": str}
log = pd.read_csv(folder / "interactions.csv", dtype=ids)[["user_id", "item_id", "timestamp"]]
items = pd.read_csv(folder / "items.csv", dtype=ids)[["item_id", "title", "category"]]

# %% [markdown]
# ## A graph
#
# Users and items are numbered from 0. `InteractionGraph` holds who took what, and gives the normalised adjacency to the
# layers.

# %%
import tf_hqgnn  # noqa: F401 (first: it chooses Keras 2)
import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.graph import InteractionGraph
from tf_hqgnn.types import Interactions

users, user_index = np.unique(log["user_id"], return_inverse=True)
films, item_index = np.unique(log["item_id"], return_inverse=True)
part = np.random.default_rng(0).random(len(log))
train, test = (
    Interactions(user_index[rows].astype(np.int32), item_index[rows].astype(np.int32))
    for rows in (part >= 0.2, part < 0.2)
)
graph = InteractionGraph.from_interactions(train, len(users), len(films))
print(f"{len(users)} users, {len(films)} items, {len(train)} interactions to train on, {len(test)} to test on")

# %% [markdown]
# ## Embeddings of your own
#
# Two embedding tables and a softmax over the items of the batch. This cell is plain Keras, without `tf_hqgnn`.

# %%
tf_keras.utils.set_random_seed(1)
tables = [tf_keras.layers.Embedding(n, 32) for n in (len(users), len(films))]
optimizer = tf_keras.optimizers.Adam(0.01)


@tf.function
def step(user, item):
    with tf.GradientTape() as tape:
        u, i = (tf.math.l2_normalize(table(rows), axis=-1) for table, rows in zip(tables, (user, item)))
        logits = tf.matmul(u, i, transpose_b=True) / 0.15
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(user)[0]), logits))
    weights = [table.trainable_weights[0] for table in tables]
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
    return loss


pairs = tf.data.Dataset.from_tensor_slices((train.user_index, train.item_index))
pairs = pairs.shuffle(len(train), seed=1).batch(1024, drop_remainder=True)
losses = [float(np.mean([step(*batch) for batch in pairs])) for _ in range(8)]
print(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} in the end")

# %% [markdown]
# ## Spread them over the graph
#
# `GraphODE` solves dh/dt = A h + e up to the time `t1`: the longer, the more neighbours count. It has no weights, so it
# can be put behind embeddings that are trained already.

# %%
import matplotlib.pyplot as plt

from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.layers import GraphODE

embeddings = tf.concat([table.trainable_weights[0] for table in tables], axis=0)


def ndcg(rows):
    found = evaluate_embeddings(
        *np.split(np.asarray(rows), [len(users)]), test, train.to_csr(len(users)), graph.item_degree, ks=[20]
    )
    return found.values["ndcg@20"]


times = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0]
spread = {t1: GraphODE(t1, solver="exact", normalize=True, graph=graph)(embeddings) for t1 in times}
values = [ndcg(rows) for rows in spread.values()]
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.plot(times, values, "-o")
place.set(xlabel="diffusion time t1", ylabel="NDCG@20 on the test part")
print(f"NDCG@20 {values[0]:.4f} as trained, {max(values):.4f} at t1 = {times[int(np.argmax(values))]}")

# %% [markdown]
# This picture only shows the effect. To choose `t1` for a model, use a validation part: a value that was chosen on the
# test part looks better there than it is.
#
# ## Round them to a few bits
#
# `LowBitQuantizer` rounds each row to 2^b levels. In training it passes a gradient through the rounding. Without
# training, as here, you see what rounding alone costs.

# %%
from tf_hqgnn.layers import LowBitQuantizer

best = spread[times[int(np.argmax(values))]]
bits = [1, 2, 3, 4, 8]
rounded = [ndcg(LowBitQuantizer(num_bits=b, estimator="ste")(best)) for b in bits]
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.plot(bits, rounded, "-o", label="rounded")
place.axhline(ndcg(best), linestyle="--", color="gray", label="float32")
place.set(xlabel="bits per value", ylabel="NDCG@20 on the test part", ylim=(0, None))
_ = place.legend(loc="lower right")

# %% [markdown]
# ## In a Keras model
#
# The layers have weights, a config and a place in `tf_keras.Sequential` as any other.

# %%
tower = tf_keras.Sequential([tf_keras.layers.Embedding(len(films), 32), LowBitQuantizer(num_bits=4)])
tower(tf.constant([0, 1]))
copy = tf_keras.Sequential.from_config(tower.get_config())
print([layer.__class__.__name__ for layer in copy.layers])
workspace.cleanup()
