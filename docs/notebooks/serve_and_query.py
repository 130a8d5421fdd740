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
# # Serve and query
#
# An exported model answers over TensorFlow Serving's two protocols: gRPC and REST. This notebook exports a model,
# starts the local server in this process, and asks it what an application asks: plain recommendations, filters,
# reasons, new users. TensorFlow Serving answers the same requests from the same folder.
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
# ## Export
#
# The preset `spectral` trains nothing, which is enough here. An export holds two models: `hqgnn` searches all items,
# `hqgnn_scann` uses an index where the catalogue is large.

# %%
from tf_hqgnn import Recommender

export_dir = Path(workspace.name) / "export"
version = Recommender("spectral", verbose=0).fit(log, items=items).export(export_dir)
sorted(str(path.relative_to(export_dir)) for path in export_dir.glob("*/*") if path.is_dir())

# %% [markdown]
# ## Start a server
#
# On the command line that is `tf-hqgnn serve EXPORT_DIR`. Port 0 picks a free port here.

# %%
from tf_hqgnn.serving.server import Server

server = Server(export_dir, grpc_port=0, rest_port=0)
_ = server.start()

# %% [markdown]
# ## Ask over REST
#
# Any HTTP client will do. A request names the signature and carries its inputs by name.

# %%
import json
import urllib.request

user = log["user_id"].iloc[0]


def ask(signature, **inputs):
    body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())["outputs"]


answer = ask("recommend", user_id=[user], k=5, exclude_item_id=[[""]], category=[""])
titles = items.set_index("item_id")["title"]
pd.DataFrame({"title": [titles.get(item, item) for item in answer["item_id"][0]], "score": answer["score"][0]})

# %% [markdown]
# ## Ask over gRPC
#
# `Client` speaks gRPC and answers with DataFrames. `items` gives it the titles.

# %%
from tf_hqgnn.serving import Client

client = Client(f"127.0.0.1:{server.grpc_port}", items=items)
client.recommend([user], k=5)

# %% [markdown]
# ## Filter
#
# Ask for one category only, or leave items out.

# %%
category = items["category"].value_counts().index[0]
client.recommend([user], k=5, category=category)

# %%
first = client.recommend([user], k=1)["item_id"].tolist()
client.recommend([user], k=5, exclude=first)

# %% [markdown]
# ## Why, and what else
#
# Which items of the history speak for a recommendation, and which items are like it?

# %%
client.explain([user], first, k=5)

# %%
client.similar_items(first, k=5)

# %% [markdown]
# ## Users whom the model doesn't know
#
# An unknown id gets popular items, and `known` is False. A few items that somebody likes are enough for more.

# %%
client.recommend(["nobody"], k=3)

# %%
client.recommend_for_history([first], k=5)

# %% [markdown]
# ## How fast?
#
# One client that asks for one user at a time, on whatever machine built this page.

# %%
import time

import matplotlib.pyplot as plt

seconds = []
for name in log["user_id"].drop_duplicates().iloc[:300]:
    began = time.perf_counter()
    client.recommend([name], k=10, as_arrays=True)
    seconds.append(time.perf_counter() - began)
figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.hist([1000 * one for one in seconds], bins=40)
place.set(xlabel="milliseconds of one request", ylabel="requests")
print(f"median {1000 * sorted(seconds)[150]:.1f} ms")

# %%
client.close()
server.stop()
workspace.cleanup()
