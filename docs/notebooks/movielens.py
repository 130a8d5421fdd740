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
# # MovieLens in five minutes
#
# You have a log of who watched what, and want recommendations. This notebook trains a model, looks at what it
# recommends and why, and measures how good it is on ratings that it hasn't seen.
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

log.head()

# %% [markdown]
# ## Hold something out
#
# To know how good a model is, you keep some of the log away from it. Here that is a tenth of all rows.

# %%
held_out = log.sample(frac=0.1, random_state=1)
known = log.drop(held_out.index)
print(f"{len(known):,} rows to learn from, {len(held_out):,} held out")

# %% [markdown]
# ## Train
#
# `Recommender()` needs no settings: it chooses them by a race on a part of the log. So that this page is built in
# seconds, `auto.steps` limits the training steps of the race and of the training together; leave it out for your own
# log. The lines below the cell say what became of the rows, what was tried, and what was chosen.

# %%
from tf_hqgnn import Recommender

model = Recommender(**{"auto.steps": 1500}).fit(known, items=items)

# %% [markdown]
# ## Ask
#
# A DataFrame goes in, a DataFrame comes out. What a user took never comes back.

# %%
user = known["user_id"].value_counts().index[20]
model.recommend([user], k=5)

# %% [markdown]
# Why is the first item recommended? Each item that the user took adds a share to its score. These are the five largest
# shares; all shares and the `rest`, which the history doesn't explain, add up to the score.

# %%
first = model.recommend([user], k=1)["item_id"].iloc[0]
model.explain([user], [first], k=5)

# %%
model.similar_items([first], k=5)

# %% [markdown]
# For somebody who isn't in the log, name a few items that they like.

# %%
model.recommend_for_history([[first]], k=5)

# %% [markdown]
# ## Measure
#
# `evaluate` ranks all items for every user and compares with what was held out. The yardstick is to recommend the most
# popular items to everybody.

# %%
import matplotlib.pyplot as plt

measured = model.evaluate(held_out, k=[5, 10, 20, 50])
popular = (
    Recommender("spectral", verbose=0, **{"model.initializer": "popularity"})
    .fit(known)
    .evaluate(held_out, k=[5, 10, 20, 50])
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for place, metric in zip(axes, ("recall", "ndcg")):
    for name, values in (("model", measured), ("popularity", popular)):
        place.plot([5, 10, 20, 50], [values[f"{metric}@{k}"] for k in (5, 10, 20, 50)], "-o", label=name)
    place.set(xlabel="k", ylabel=f"{metric}@k", ylim=(0, None))
    place.legend()

# %% [markdown]
# Does the model only repeat what is popular? The next picture has the items by popularity on one axis, and how often
# they are recommended on the other.

# %%
answers = model.recommend("all", k=20)
shown = answers["item_id"].value_counts()
taken = known["item_id"].value_counts()
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.scatter(taken, [shown.get(item, 0) for item in taken.index], s=8)
place.set(xlabel="rows in the log", ylabel="users who get the item", xscale="log")
print(f"{len(shown):,} of {len(taken):,} items are recommended to somebody")

# %% [markdown]
# ## Keep it
#
# `save` writes a run directory, which `Recommender.load` and the command line read. `export` writes a SavedModel for
# TensorFlow Serving: [Serve and query](serve_and_query.md) goes on from there.

# %%
model.save(Path(workspace.name) / "run")
again = Recommender.load(Path(workspace.name) / "run", verbose=0)
again.recommend([user], k=3)

# %%
workspace.cleanup()
