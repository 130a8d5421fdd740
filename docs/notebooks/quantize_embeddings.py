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
# # Quantize your own embeddings
#
# Your embeddings come from another library: implicit's ALS, or a two-tower model. This notebook rounds them to a few
# bits, shows how much accuracy each number of bits costs, and exports them for TensorFlow Serving. You need two arrays:
# one with a row for each user, and one with a row for each item.
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
# ## Embeddings from elsewhere
#
# If implicit is installed, its ALS makes them. Otherwise SciPy's truncated SVD does, which needs no training. Any other
# model that scores by a dot product will do.

# %%
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import svds

from tf_hqgnn.types import Interactions

users, user_index = np.unique(log["user_id"], return_inverse=True)
films, item_index = np.unique(log["item_id"], return_inverse=True)
part = np.random.default_rng(0).random(len(log))
train, test = (
    Interactions(user_index[rows].astype(np.int32), item_index[rows].astype(np.int32))
    for rows in (part >= 0.2, part < 0.2)
)
ones = np.ones(len(train), np.float32)
matrix = scipy.sparse.csr_matrix((ones, (train.user_index, train.item_index)), (len(users), len(films)))
try:
    from implicit.als import AlternatingLeastSquares

    als = AlternatingLeastSquares(factors=32, random_state=0, num_threads=1)
    als.fit(matrix, show_progress=False)
    user_rows, item_rows = als.user_factors, als.item_factors
except ImportError:
    left, values, right = svds(matrix, k=32, random_state=0)
    user_rows, item_rows = left * values, right.T
user_rows, item_rows = (np.ascontiguousarray(rows, np.float32) for rows in (user_rows, item_rows))
user_rows.shape, item_rows.shape

# %% [markdown]
# ## Codes
#
# `Codes.quantize` rounds the values of each row to 2^b levels. Each row has a range of its own, so that long rows stay
# long: the length of an item's row says how popular the item is. A row takes the bits of its values, and two bytes for
# its scale.

# %%
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.quantization.codes import Codes


def ndcg(rows):
    popularity = np.bincount(train.item_index, minlength=len(films))
    found = evaluate_embeddings(user_rows, rows, test, train.to_csr(len(users)), popularity, ks=[20])
    return found.values["ndcg@20"]


exact = ndcg(item_rows)
table = pd.DataFrame(
    [
        {"bits": bits, "bytes per item": int(codes.bytes_per_item), "NDCG@20": ndcg(codes.dequantize())}
        for bits in (1, 2, 3, 4, 8)
        for codes in [Codes.quantize(item_rows, num_bits=bits)]
    ]
)
table["of float32"] = table["NDCG@20"] / exact
table.round(4)

# %%
import matplotlib.pyplot as plt

figure, place = plt.subplots(figsize=(6, 3.2), layout="constrained")
place.plot(table["bytes per item"], table["NDCG@20"], "-o", label="codes")
place.plot([4 * item_rows.shape[1]], [exact], "s", label="float32")
for row in table.itertuples():
    place.annotate(f"{row.bits} bit", (row[2], row[3]), xytext=(4, -12), textcoords="offset points")
place.set(xlabel="bytes per item", ylabel="NDCG@20 on the test part", xscale="log", ylim=(0, None))
_ = place.legend(loc="lower right")

# %% [markdown]
# Down to 4 bits, rounding costs next to nothing. Below that, codes that are trained to keep the ranking do better: see
# [Low-bit codes](../codes.md).
#
# ## Serve them
#
# A `ServingBundle` joins the rows with their ids and with what each user has taken. `export_exact` makes a SavedModel
# of it that TensorFlow Serving loads, and that searches in the codes themselves.

# %%
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.serving.client import LocalModel

bundle = ServingBundle(
    user_ids=users.astype(object),
    item_ids=films.astype(object),
    users=user_rows,
    items=Codes.quantize(item_rows, num_bits=4),
    seen=train.to_csr(len(users)),
    item_popularity=np.bincount(train.item_index, minlength=len(films)).astype(np.float32),
)
export_dir = Path(workspace.name) / "export"
export_exact(bundle, export_dir, ExportConfig(), version=1)
with LocalModel(export_dir / "hqgnn" / "1") as model:
    (answer,) = model.recommend([users[0]], k=5)
titles = items.set_index("item_id")["title"]
pd.DataFrame({"title": [titles.get(item, item) for item in answer.item_ids], "score": answer.scores})

# %% [markdown]
# `tf-hqgnn serve EXPORT_DIR` serves this folder, and `examples/two_tower.py` does the same with a
# model of TensorFlow Recommenders.

# %%
workspace.cleanup()
