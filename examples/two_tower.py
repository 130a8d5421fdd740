"""A two-tower model of TensorFlow Recommenders whose items are served in 4 bits from the index of tf_hqgnn.

    pip install tensorflow-recommenders
    python examples/two_tower.py LOG.csv EXPORT_DIR

The item tower ends in a `LowBitQuantizer`, so that training sees the rounding. What the tower gives is then exactly
what 4-bit codes stand for, and the codes are what is exported. `tf-hqgnn serve EXPORT_DIR` and TF Serving serve it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tf_hqgnn  # noqa: F401 (first: it chooses Keras 2, which TFRS needs)
import numpy as np
import pyarrow.csv
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.graph import InteractionGraph
from tf_hqgnn.layers import LowBitQuantizer
from tf_hqgnn.types import Interactions


class TwoTower(tfrs.Model):
    """An embedding for every user, and one in 4 bits for every item."""

    def __init__(self, user_ids: np.ndarray, item_ids: np.ndarray, dim: int = 32) -> None:
        super().__init__()
        self.user_tower = tf_keras.Sequential(
            [tf_keras.layers.StringLookup(vocabulary=user_ids), tf_keras.layers.Embedding(len(user_ids) + 1, dim)]
        )
        self.item_embedding = tf_keras.Sequential(
            [tf_keras.layers.StringLookup(vocabulary=item_ids), tf_keras.layers.Embedding(len(item_ids) + 1, dim)]
        )
        self.quantizer = LowBitQuantizer(num_bits=4)
        self.item_tower = tf_keras.Sequential([self.item_embedding, self.quantizer])
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, pairs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The in-batch softmax of TFRS."""
        users, items = pairs
        return self.task(self.user_tower(users), self.item_tower(items), compute_metrics=not training)


def main(log: str | Path, out: str | Path, epochs: int = 5) -> tuple[TwoTower, ServingBundle, Path]:
    """Trains on a log with the columns user_id and item_id, and exports; returns model, bundle and SavedModel."""
    strings = pyarrow.csv.ConvertOptions(column_types={"user_id": "string", "item_id": "string"})
    table = pyarrow.csv.read_csv(log, convert_options=strings)
    users, items = (table[name].to_numpy().astype(str) for name in ("user_id", "item_id"))
    user_ids, user_index = np.unique(users, return_inverse=True)
    item_ids, item_index = np.unique(items, return_inverse=True)

    model = TwoTower(user_ids, item_ids)
    model.compile(tf_keras.optimizers.Adam(0.02))
    pairs = tf.data.Dataset.from_tensor_slices((users, items)).shuffle(len(users), seed=1).batch(512)
    model.fit(pairs, epochs=epochs, verbose=2)

    interactions = Interactions(user_index.astype(np.int32), item_index.astype(np.int32))
    graph = InteractionGraph.from_interactions(interactions, len(user_ids), len(item_ids))
    bundle = ServingBundle(
        user_ids=user_ids.astype(object),
        item_ids=item_ids.astype(object),
        users=model.user_tower(user_ids).numpy(),
        items=model.quantizer.encode(model.item_embedding(item_ids)),
        seen=graph.seen(),
        item_popularity=graph.item_degree.astype(np.float32),
    )
    path = export_exact(bundle, out, ExportConfig(), version=1)
    print(f"{path}: {bundle.items}, where float32 takes {4 * bundle.items.dim}")

    answer = tf.saved_model.load(str(path)).signatures["serving_default"](user_id=tf.constant(user_ids[:1]))
    print(f"user {user_ids[0]}:", *(item.decode() for item in answer["item_id"][0, :5].numpy()))
    return model, bundle, path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", help="CSV file with the columns user_id and item_id")
    parser.add_argument("out", help="folder for the SavedModel")
    main(**vars(parser.parse_args()))
