"""The exported models need no code of this package, and `hqgnn` nothing but TensorFlow, on any device."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import Oracle, coded_bundle, make_bundle, with_user_features
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import kernels

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.layout import EXACT_MODEL, FOR_FEATURES, ModelSettings
from tf_hqgnn.export.serving_module import make_module

BUNDLE = make_bundle(seed=1)
# By version: floats; 1 bit each, by XOR alone; bit planes or bytes by the size of the batch, with offsets; bytes.
BUNDLES = {
    "1": BUNDLE,
    "2": coded_bundle(1, 1, dim=64),
    "3": coded_bundle(2, 8, dim=9, symmetric=False),
    "4": coded_bundle(8, None),
    "5": with_user_features(BUNDLE),
}

# Strings and hash tables live on the host in TensorFlow; there is no kernel for them on any accelerator.
HOST_ONLY = {
    ("LookupTableFindV2", "string"),
    ("GatherV2", "string"),
    ("SelectV2", "string"),
    ("Equal", "string"),
    ("NotEqual", "string"),
    ("Const", "string"),
    ("EnsureShape", "string"),
    ("Shape", "string"),
    ("Reshape", "string"),
    ("ParseExampleV2", ""),
}

# What takes features as text apart.
OF_TEXT = {
    ("StaticRegexFullMatch", ""),
    ("StaticRegexReplace", ""),
    ("StringLower", ""),
    ("StringSplitV2", ""),
    ("StringStrip", ""),
    ("StringToHashBucketFast", ""),
    ("StringToNumber", ""),
}

# Answers of each model in sys.argv[1], through the loader of TensorFlow 2 and through that of sessions, which restores
# variables and fills tables as TensorFlow Serving does.
READER = """
import json, sys
for name in sys.argv[3:]:
    sys.modules[name] = None
import tensorflow as tf
if "scann" not in sys.argv[3:]:
    import scann
for name in ("tf_hqgnn", "tensorflow_recommenders"):
    assert not sys.modules.get(name), name
for path, users in zip(*map(json.loads, sys.argv[1:3])):
    loaded = tf.saved_model.load(path)
    outputs = loaded.signatures["serving_default"](user_id=tf.constant(users))
    answers = [[[name.decode() for name in row] for row in outputs["item_id"].numpy()]]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
        signature = graph.signature_def["serving_default"]
        ids = session.run(signature.outputs["item_id"].name, {signature.inputs["user_id"].name: users})
        answers.append([[name.decode() for name in row] for row in ids])
    print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function from `model/version` to the folder of that export, made when it is first asked for."""
    out = tmp_path_factory.mktemp("export")

    @functools.cache
    def path(model):
        name, version = model.split("/")
        if name == EXACT_MODEL:
            return export_exact(BUNDLES[version], out, ExportConfig(), version=int(version))
        all_leaves = RetrievalConfig(num_leaves=4, num_leaves_to_search=4)
        return export_scann(BUNDLES[version], out, ExportConfig(), all_leaves, version=int(version))

    return path


@pytest.mark.long
@pytest.mark.parametrize(
    ("models", "missing"),
    [(("hqgnn/1", "hqgnn/3", "hqgnn/5"), ("tf_hqgnn", "scann")), (("hqgnn_scann/3",), ("tf_hqgnn",))],
)
def test_reloaded_where_the_package_cannot_be_imported(exported, models, missing):
    bundles = [BUNDLES[model[-1]] for model in models]
    users = [[*bundle.user_ids, "nobody"] for bundle in bundles]
    paths = [str(exported(model)) for model in models]
    command = [sys.executable, "-I", "-c", READER, json.dumps(paths), json.dumps(users), *missing]
    process = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert process.returncode == 0, process.stderr
    printed = process.stdout.splitlines()[-len(models) :]
    for model, bundle, some, line in zip(models, bundles, users, printed, strict=True):
        oracle = Oracle(bundle)
        expected = [oracle.recommend(user, 10)[1] for user in some]
        for answers in json.loads(line):
            assert [[name for name in row if name] for row in answers] == expected, model


@pytest.mark.parametrize("version", BUNDLES)
def test_every_operation_has_a_gpu_kernel(version):
    # The graphs that an export writes; to write and load them brings no other operation.
    settings = ModelSettings(ExportConfig(), RetrievalConfig())
    module = make_module(BUNDLES[version], EXACT_MODEL, settings)
    signatures = module.signatures()
    expected = {"serving_default", "recommend", "recommend_for_history", "similar_items", "embed_user", "tf_example"}
    expected |= {"score", "similar_users", "rerank", "explain", "recommend_with_history", "recommend_where"}
    assert set(signatures) == expected | ({FOR_FEATURES} if version == "5" else set())
    for name in signatures:
        nodes = list(_nodes(signatures[name].get_concrete_function().graph.as_graph_def()))
        assert len({node.op for node in nodes}) > 5
        if version != "3":  # whose rows of 9 bits are bytes of odd number
            # It would make every read of a table a copy of it.
            assert "ResourceGather" not in {node.op for node in nodes}
        allowed = HOST_ONLY | OF_TEXT if name == FOR_FEATURES else HOST_ONLY
        assert {_name(node) for node in nodes if not _has_gpu_kernel(node)} <= allowed, name


RANKS = ("a_scalar", "a_vector", "a_matrix")


@pytest.mark.parametrize("model", ["hqgnn/5", "hqgnn_scann/3"])
def test_a_wrong_rank_is_refused_by_the_graph_itself(exported, model):
    """As TF Serving, TensorFlow for Java and the C API run it: neither they nor a callable looks at the shapes."""
    if "scann" in model:
        pytest.importorskip("scann")
    path = str(exported(model))
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def
        names = [name for name in signatures if not name.startswith("__")]
        assert {"embed_user", "tf_example", "recommend_where"} < set(names)
        for name in names:
            inputs = sorted(signatures[name].inputs)
            infos = [signatures[name].inputs[one] for one in inputs]
            options = config_pb2.CallableOptions(feed=[info.name for info in infos])
            options.fetch.extend(info.name for info in signatures[name].outputs.values())
            call = session._make_callable_from_options(options)
            values = [some_value(tf.as_dtype(info.dtype), len(info.tensor_shape.dim)) for info in infos]
            call(*values)
            for place, value in enumerate(values):
                for rank in {0, 1, 2, 3} - {value.ndim}:
                    wrong = [*values[:place], some_value(value.dtype, rank), *values[place + 1 :]]
                    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
                        call(*wrong)
                    said = f"{inputs[place]}_must_be_{RANKS[value.ndim]}"
                    came, expected = ",".join("1" * rank), ",".join("?" * value.ndim)
                    assert f" [{came}] is not compatible with expected shape [{expected}]" in str(raised.value)
                    assert said in str(raised.value), name


def some_value(dtype, rank):
    """One that every signature takes, of one row."""
    if dtype in (tf.string, object):
        return np.full((1,) * rank, b"", object)
    return np.zeros((1,) * rank, tf.as_dtype(dtype).as_numpy_dtype)


def test_the_kernel_check_finds_what_has_none():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def ragged(lengths):
        return tf.ragged.range(lengths).values

    nodes = _nodes(ragged.get_concrete_function().graph.as_graph_def())
    assert "RaggedRange" in {node.op for node in nodes if not _has_gpu_kernel(node)}


def _nodes(graph):
    """All nodes of a graph and of the functions that it calls."""
    library = {function.signature.name: function for function in graph.library.function}
    todo, visited = list(graph.node), set()
    while todo:
        node = todo.pop()
        yield node
        called = {attr.func.name for attr in node.attr.values() if attr.HasField("func")}
        for name in called & library.keys() - visited:
            visited.add(name)
            todo += library[name].node_def


def _has_gpu_kernel(node):
    # DEFAULT kernels run on every device.
    return any(kernel.device_type in ("GPU", "DEFAULT") and _fits(kernel, node) for kernel in _kernels_of(node.op))


@functools.cache
def _kernels_of(op):
    return list(kernels.get_registered_kernels_for_op(op).kernel)


def _fits(kernel, node):
    allowed = {constraint.name: constraint.allowed_values.list.type for constraint in kernel.constraint}
    return all(not types or node.attr[name].type in types for name, types in allowed.items())


def _name(node):
    types = [node.attr[key].type for key in ("T", "Tparams", "dtype", "Tin") if node.attr[key].type]
    return node.op, tf.dtypes.as_dtype(types[0]).name if types else ""
