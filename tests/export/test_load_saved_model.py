"""Loading SavedModels: what is refused, and that ScaNN is imported exactly where the graph needs it."""

import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import make_bundle, save_function
from tensorflow.core.protobuf import saved_model_pb2

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact, export_scann
from tf_hqgnn.export.loading import is_compiled, load_saved_model, needs_scann


@pytest.fixture(scope="module")
def saved_double(tmp_path_factory):
    return save_function(tmp_path_factory.mktemp("double"), "double", lambda x: {"y": 2 * x})


@pytest.fixture
def model_dir(saved_double, tmp_path):
    return shutil.copytree(saved_double, tmp_path / "1")


def name_an_operation_of_scann(model_dir):
    path = model_dir / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="searcher", op="Scann>ScannSearchBatched")
    path.write_bytes(model.SerializeToString())


def test_a_model_answers(model_dir):
    answer = load_saved_model(str(model_dir)).signatures["double"](x=tf.constant([3.0]))
    assert answer["y"].numpy().tolist() == [6.0]


def test_what_is_not_a_saved_model(tmp_path, model_dir):
    with pytest.raises(ValueError, match=r"is not a SavedModel: expected the file saved_model.pb in it"):
        load_saved_model(tmp_path)
    shutil.rmtree(model_dir / "variables")
    with pytest.raises(ValueError, match="can't be loaded"):
        load_saved_model(model_dir)
    content = (model_dir / "saved_model.pb").read_bytes()
    (model_dir / "saved_model.pb").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"saved_model\.pb is damaged or cut short"):
        load_saved_model(model_dir)


def test_scann_missing(model_dir, monkeypatch):
    name_an_operation_of_scann(model_dir)
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(
        ImportError,
        match=r"searches with ScaNN, which can't be imported .*pip install 'tf_hqgnn\[scann\]', or take the model hq",
    ):
        load_saved_model(model_dir)


def test_a_model_without_scann_loads_where_there_is_none(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    assert load_saved_model(model_dir).signatures["double"] is not None


def test_only_the_index_needs_scann_whatever_its_ids_are(tmp_path, run_command):
    bundle = make_bundle()
    named = np.array(["Scann>ScannSearchBatched", *bundle.item_ids[1:]], object)
    categories = np.full(len(named), "Scann>ScannToTensors", object)
    bundle = ServingBundle(
        bundle.user_ids, named, bundle.users, bundle.items, bundle.seen, bundle.item_popularity, categories
    )
    assert not needs_scann(export_exact(bundle, tmp_path, ExportConfig(), 1))
    assert not needs_scann(export_scann(bundle, tmp_path, ExportConfig(), RetrievalConfig(index="exact"), 1))
    index = export_scann(bundle, tmp_path, ExportConfig(), RetrievalConfig(index="scann", num_leaves=3), 2)
    assert needs_scann(index)
    # In a process that hasn't imported ScaNN yet, which this one has.
    program = "import sys; from tf_hqgnn.export.loading import load_saved_model; before = 'scann' in sys.modules; "
    program += "load_saved_model(sys.argv[1]); print(before, 'scann' in sys.modules)"
    done = run_command.run(["python", "-c", program, index])
    assert done.out.split() == ["False", "True"], done.err


def test_what_xla_compiles_is_known(tmp_path):
    for jit_compile in (True, False):
        module = tf.Module()
        module.square = tf.function(
            lambda x: x * x, input_signature=[tf.TensorSpec([2], tf.float32)], jit_compile=jit_compile
        )
        tf.saved_model.save(module, str(tmp_path / str(jit_compile)))
        assert is_compiled(tmp_path / str(jit_compile)) == jit_compile
