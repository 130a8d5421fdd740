"""Weights, dislikes and what was taken come through a pipeline's Examples and catalogue as they went in."""

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.tfx.examples import interaction_columns, read_transformed, serialize_examples
from tf_hqgnn.tfx.known_pairs import add_known_pairs, write_known_pairs

LOG = """user_id,item_id,rating,weight
a,i,1,1
b,i,5,2
b,j,3,1
c,i,4,0.5
c,j,5,4
c,k,1,1
"""


def test_pairs_that_are_no_interactions_come_back(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    config = DataConfig(path=str(tmp_path / "log.csv"), min_rating=4, negative_rating=3, split={"valid": 0, "test": 0})
    dataset = load_dataset(config, seed=1)
    write_known_pairs(dataset, tmp_path / "catalogue")
    # What Transform knows are the interactions: user `a` has none.
    train = dataset.train
    place = np.array([-1, 0, 1])
    bare = SplitDataset(
        dataset.user_ids[1:],
        dataset.item_ids,
        type(train)(place[train.user_index].astype(np.int32), train.item_index, None, train.weight),
        dataset.valid,
        dataset.test,
        report=dataset.report,
    )
    again = add_known_pairs(bare, tmp_path / "catalogue")
    assert again.fingerprint() == dataset.fingerprint()
    assert len(dataset.disliked) == 1  # item k is nobody's, so nobody is recommended it
    assert len(dataset.history()) == 5
    plain = SplitDataset(bare.user_ids, bare.item_ids, bare.train, bare.valid, bare.test)
    assert add_known_pairs(plain, tmp_path / "none") is plain


def test_weights_come_back(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    config = DataConfig(path=str(tmp_path / "log.csv"), split={"valid": 0, "test": 0})
    dataset = load_dataset(config, seed=1)
    with tf.io.TFRecordWriter(str(tmp_path / "a.gz"), options="GZIP") as writer:
        for record in serialize_examples(interaction_columns(dataset, "train")):
            example = tf.train.Example.FromString(record)
            features = example.features.feature
            for name, ids in (("user", dataset.user_ids), ("item", dataset.item_ids)):
                row = ids.tolist().index(features.pop(f"{name}_id").bytes_list.value[0].decode())
                features[f"{name}_index"].int64_list.value.append(row)
            writer.write(example.SerializeToString())
    read = read_transformed([f"{tmp_path}/*.gz"], [b"a", b"b", b"c"], [b"i", b"j", b"k"])
    assert read.weight.tolist() == dataset.train.weight.tolist() == [1, 2, 1, 0.5, 4, 1]
