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
user = today["user_id"].iloc[0]
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
# Half of today is learnt from, the other half judges: the old model and the new one rank all items for the same users.

# %%
learnt, judged = today.iloc[::2], today.iloc[1::2]
candidate = Recommender("spectral", verbose=0).fit(pd.concat([history, learnt]), items=items)
before, after = (one.evaluate(judged, k=[20])["ndcg@20"] for one in (model, candidate))
print(f"NDCG@20 on today's other half: {before:.4f} served now, {after:.4f} of the candidate")

# %% [markdown]
# A gate decides by a rule that was written down before: here, that the candidate is at most 5% worse. The server isn't
# needed any more in this notebook.

# %%
is_good = after >= 0.95 * before
if is_good:
    print("version", candidate.export(export_dir), "is exported; the server goes over to it by itself")
else:
    print("not pushed; version 1 stays served")
client.close()
server.stop()

# %% [markdown]
# How long is a model good? Train on more and more of the history, and judge each model by the same evening.

# %%
import matplotlib.pyplot as plt

sizes = [3, 6, 9]
values = [
    Recommender("spectral", verbose=0).fit(log.iloc[np.concatenate(days[:n])]).evaluate(judged, k=[20])["ndcg@20"]
    for n in sizes
]
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.plot(sizes, values, "-o")
place.axhline(after, linestyle="--", color="gray", label="with this morning")
place.set(xlabel="days of history that the model knows", ylabel="NDCG@20 this evening", ylim=(0, None))
_ = place.legend()

# %% [markdown]
# ## A new item
#
# It came in at noon, and three users took it. `add_items` gives it an embedding by them, without training.

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
