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
# # A day in production
#
# A model is served. A day's log comes in, the model is trained again, judged, and served if it is good enough. New
# items are added in between, and somebody asks to be forgotten. This notebook does by hand what the pipeline does every
# night: see [Every day](../every_day.md).
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
# ## Yesterday
#
# The log is cut into days of equal size: the first nine are history, the tenth is today. Yesterday's model knows only
# the history.

# %%
import numpy as np

from tf_hqgnn import Recommender

log = log.sort_values("timestamp", kind="stable").reset_index(drop=True)
days = np.array_split(np.arange(len(log)), 10)
history, today = log.iloc[np.concatenate(days[:9])], log.iloc[days[9]]
model = Recommender("spectral", verbose=0).fit(history, items=items)
export_dir = Path(workspace.name) / "export"
print(f"{len(history):,} rows of history, {len(today):,} of today; version {model.export(export_dir)} is exported")

# %%
from tf_hqgnn.serving import Client
from tf_hqgnn.serving.server import Server

server = Server(export_dir, grpc_port=0, rest_port=None, poll_seconds=0.2)
_ = server.start()
client = Client(f"127.0.0.1:{server.grpc_port}", items=items)
user = today.loc[today["user_id"].isin(history["user_id"]), "user_id"].iloc[0]
client.recommend([user], k=5)

# %% [markdown]
# ## During the day
#
# A known user takes more items. `recommend_with_history` counts them at once, without training.

# %%
new = today.loc[today["user_id"] == user, "item_id"].head(3).tolist()
client.recommend_with_history([user], [new], k=5)

# %% [markdown]
# ## In the evening
#
# Half of today's rows are learnt from, the other half judges. `evaluate` leaves out users whom a model doesn't know, so
# keep only those whom the old model knows: otherwise the two figures would be about different users.

# %%
learnt, judged = today.iloc[::2], today.iloc[1::2]
judged = judged[judged["user_id"].isin(history["user_id"])]
candidate = Recommender("spectral", verbose=0).fit(pd.concat([history, learnt]), items=items)
before, after = (one.evaluate(judged, k=[20])["ndcg@20"] for one in (model, candidate))
print(f"NDCG@20 on today's other half: {before:.4f} of the model that is served, {after:.4f} of the new one")

# %% [markdown]
# A gate is a rule that decides which model is served, written down before the figures are known. Here, the new model
# may be at most 5% worse. The rest of this notebook needs no server.

# %%
is_good = after >= 0.95 * before
if is_good:
    print("version", candidate.export(export_dir), "is exported; a server that watches the folder loads it by itself")
else:
    print("not exported; version 1 stays served")
client.close()
server.stop()

# %% [markdown]
# How long does a model stay good? Train on more and more of the history, and judge each model on the same rows of
# today: those of users whom all these models know.

# %%
import matplotlib.pyplot as plt

sizes = [3, 6, 9]
past = {n: log.iloc[np.concatenate(days[:n])] for n in sizes}
same = judged[judged["user_id"].isin(past[3]["user_id"])]
values = [Recommender("spectral", verbose=0).fit(past[n]).evaluate(same, k=[20])["ndcg@20"] for n in sizes]
newest = candidate.evaluate(same, k=[20])["ndcg@20"]
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.plot(sizes, values, "-o")
place.axhline(newest, linestyle="--", color="gray", label="9 days and half of today")
place.set(xlabel="days of history that the model knows", ylabel="NDCG@20 today", ylim=(0, None))
_ = place.legend()

# %% [markdown]
# ## A new item
#
# An item came in at noon, and three users took it. `add_items` gives it an embedding, made from those of these users,
# without training.

# %%
from tf_hqgnn.export.new_items import add_items

fans = history["user_id"].value_counts().index[:3]
pd.DataFrame({"user_id": fans, "item_id": "new-item"}).to_csv(Path(workspace.name) / "new.csv", index=False)
added = add_items(export_dir, Path(workspace.name) / "new.csv")
print(f"version {added.version}: {added.num_added} item added")

# %% [markdown]
# ## Somebody asks to be forgotten
#
# `forget` writes a version without the user's id, embedding and history, and says what it can't reach.

# %%
from tf_hqgnn.forget.forget import forget

record = forget([user], export_dir=export_dir, keep=0)
print("\n".join([*record.touched, *record.not_reached]).replace(workspace.name, ""))

# %%
workspace.cleanup()
