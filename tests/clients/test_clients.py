"""Clients in Java, C and Go get the answers that Python gets, bit for bit: in their own process, and by gRPC."""

import ast
import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from client_programs import build_c, build_go, build_java, build_java_grpc, java_sources, make_go_module, run, why_no_go
from exchange import read_answers, write_requests
from export_oracle import make_bundle, with_several_categories, with_user_features
from java_parts import HERE, why_missing

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.layout import GUIDE_FILE
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.serving.server import Server

pytestmark = pytest.mark.java

BUNDLE = with_user_features(with_several_categories(make_bundle()))
MODELS = ("hqgnn", "hqgnn_scann")
# Known ones, unknown ones, and an id that is longer than any may be.
STRANGE = ["nobody", "", "\N{GRINNING FACE}", "x" * 5000]
USERS, ITEMS = [["u1", "日本", "u3", *STRANGE], ["i3", "a\nb", *STRANGE, "i7"]]
POOLS = {
    "user_id": USERS,
    "item_id": ITEMS,
    "history_item_id": ITEMS,
    "candidate_item_id": ITEMS,
    "exclude_item_id": ["i2", "i4", ""],
    "include_item_id": ["i1", "i2", "i5", ""],
    "category": ["", "film", "日本", "nothing"],
    "exclude_category": ["", "rare"],
    "user_feature": ["age=24", "", "gender=F", "height=high"],
    "allow_seen": [True, False],
    "diversity": [0.5, 0.0],
    "popularity": [0.0, -1.5],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`(folder, signatures of each model)`."""
    pytest.importorskip("scann")
    out = tmp_path_factory.mktemp("export")
    all_leaves = RetrievalConfig(num_leaves=4, num_leaves_to_search=4)
    exact = export_exact(BUNDLE, out, ExportConfig(default_k=4), version=1)
    roots = [
        load_saved_model(exact),
        load_saved_model(export_scann(BUNDLE, out, ExportConfig(), all_leaves, version=1)),
    ]
    yield out, {name: root.signatures for name, root in zip(MODELS, roots)}
    del roots


@pytest.fixture(scope="module")
def questions(exported):
    """Requests to each signature, which both models have."""
    return list(questions_of(exported[1]["hqgnn"]))


@pytest.fixture(scope="module")
def expected(exported, questions):
    """What Python answers to each of them, by model; None where `k` is refused."""
    return {
        model: [
            None if inputs.get("k", 0) < 0 else python_answer(signatures[name], inputs) for name, inputs in questions
        ]
        for model, signatures in exported[1].items()
    }


def python_answer(signature, inputs):
    outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def questions_of(signatures):
    everything = {"exclude_item_id": np.tile(np.array([one.encode() for one in BUNDLE.item_ids], object), (2, 1))}
    for name, function in signatures.items():
        specs = function.structured_input_signature[1]
        for batch in (0, 1, 64):
            yield name, inputs_for(specs, batch, k=3)
        # Nothing, more than there is, and what is refused.
        for k in (0, 45, -1) if "k" in specs else ():
            yield name, inputs_for(specs, 2, k)
        if "exclude_item_id" in specs:
            yield name, {**inputs_for(specs, 2, k=3), **everything}


def inputs_for(specs, batch, k):
    inputs = {}
    for name, spec in specs.items():
        shape = (batch, 3)[: spec.shape.rank]
        if name == "k":
            inputs[name] = np.array(k, np.int32)
            continue
        if name == "examples":
            pool = [example(user) for user in USERS]
        else:
            pool = [one.encode() if isinstance(one, str) else one for one in POOLS[name]]
        flat = np.array(list(itertools.islice(itertools.cycle(pool), int(np.prod(shape)))), object)
        inputs[name] = flat.reshape(shape).astype(object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
    return inputs


def example(user_id):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user_id.encode()]))
    return tf.train.Example(features=tf.train.Features(feature={"user_id": feature})).SerializeToString()


def wrong_ranks():
    """`(request, what its error must say)`."""
    users, matrix = np.array([b"u1"], object), np.array([[b"u1"]], object)
    yield ("embed_user", {"user_id": matrix}), "user_id_must_be_a_vector"
    yield ("similar_users", {"user_id": matrix[0, 0:1].reshape(()), "k": np.array(2, np.int32)}), "user_id_must_be_a_ve"
    yield ("similar_users", {"user_id": users, "k": np.array([2], np.int32)}), "k_must_be_a_scalar"


def ask(command, requests, folder, *options):
    """What a program answers; it takes the files of requests and answers as its last arguments."""
    write_requests(folder / "requests.txt", requests)
    run([*command, folder / "requests.txt", folder / "answers.txt", *options])
    answers = read_answers(folder / "answers.txt")
    assert len(answers) == len(requests)
    return answers


def check_answers(answers, requests, expected):
    """The same outputs of the same types and shapes, and of numbers the same bits."""
    for (name, _), answer, outputs in zip(requests, answers, expected, strict=True):
        if outputs is None:
            assert "k must be from 0 to" in answer.error, name
            continue
        assert not answer.error, name
        assert set(answer.outputs) == set(outputs), name
        for key, value in outputs.items():
            found = answer.outputs[key]
            assert (found.dtype, found.shape) == (value.dtype, value.shape), (name, key)
            bits = (one.view(np.uint32) if one.dtype == np.float32 else one for one in (found, value))
            np.testing.assert_array_equal(*bits, err_msg=f"{name} {key}")


def check_ranks(command, folder):
    requests, said = zip(*wrong_ranks())
    for answer, words in zip(ask(command, requests, folder), said, strict=True):
        assert words in answer.error


def library(model):
    """The options that register the operations of ScaNN, if a model needs them."""
    import scann

    (path,) = Path(scann.__file__).parent.rglob("_scann_ops.so")
    return ["--library", path] if model == "hqgnn_scann" else []


@pytest.fixture(scope="module")
def java_programs(tmp_path_factory):
    """The command that runs the client of each version of TensorFlow for Java."""
    built = {}

    def command(part):
        if part not in built:
            reason = why_missing(part)
            if reason is not None:
                pytest.skip(reason)
            built[part] = build_java(java_sources("SavedModelClient"), part, tmp_path_factory.mktemp(part))
        return built[part]

    return command


# ScaNN's library is built for one TensorFlow, here 2.16: that of TensorFlow for Java 1.0.0.
@pytest.mark.parametrize(
    ("part", "model"),
    [("tensorflow-1.0.0", "hqgnn"), ("tensorflow-1.0.0", "hqgnn_scann"), ("tensorflow-1.1.0", "hqgnn")],
)
def test_java_in_its_own_process(exported, questions, expected, java_programs, part, model, tmp_path):
    command = [*java_programs(part), exported[0] / model / "1"]
    check_answers(ask(command, questions, tmp_path, *library(model)), questions, expected[model])
    if model == "hqgnn":
        check_ranks(command, tmp_path)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the C client needs gcc")
def test_c_in_its_own_process(exported, questions, expected, tmp_path):
    out, program = exported[0], build_c(HERE / "c" / "client.c", tmp_path)
    for model in MODELS:
        command = [program, out / model / "1"]
        check_answers(ask(command, questions, tmp_path, *library(model)), questions, expected[model])
    check_ranks([program, out / "hqgnn" / "1"], tmp_path)


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported[0], grpc_port=0, rest_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def go_module(tmp_path_factory):
    reason = why_missing("grpc") or why_no_go()
    if reason is not None:
        pytest.skip(reason)
    return make_go_module(tmp_path_factory.mktemp("go"))


def test_java_by_grpc(questions, expected, server, tmp_path):
    reason = why_missing("grpc")
    if reason is not None:
        pytest.skip(reason)
    check_server([*build_java_grpc(tmp_path), f"127.0.0.1:{server.grpc_port}"], questions, expected, tmp_path)


def test_go_by_grpc(questions, expected, server, go_module, tmp_path):
    check_server([build_go(go_module), f"127.0.0.1:{server.grpc_port}"], questions, expected, tmp_path)


def check_server(command, questions, expected, folder):
    for model in MODELS:
        check_answers(ask([*command, model], questions, folder), questions, expected[model])


@pytest.mark.parametrize("language", ["python", "java", "c", "go"])
def test_a_program_of_the_guide_runs(exported, server, request, language, tmp_path):
    """As `assets.extra/README.md` has it, for user u1 and five answers."""
    version = exported[0] / "hqgnn" / "1"
    code = (version / GUIDE_FILE).read_text(encoding="utf-8").partition(f"```{language}\n")[2].partition("```")[0]
    where = version
    source = tmp_path / {"python": "ask.py", "java": "Ask.java", "c": "ask.c", "go": "main.go"}[language]
    if language == "go":
        source, where = request.getfixturevalue("go_module") / "ask" / "main.go", f"127.0.0.1:{server.grpc_port}"
        source.parent.mkdir()
    source.write_text(code, encoding="utf-8")
    if language == "python":
        command = [sys.executable, source]
    elif language == "go":
        command = [build_go(source.parents[1], "./ask")]
    elif language == "c":
        if shutil.which("gcc") is None:
            pytest.skip("a program in C needs gcc")
        command = [build_c(source, tmp_path)]
    else:
        request.getfixturevalue("java_programs")("tensorflow-1.0.0")
        command = build_java([source], "tensorflow-1.0.0", tmp_path)
    nothing = {"exclude_item_id": np.array([[b""]], object), "category": np.array([b""], object)}
    asked = {"user_id": np.array([b"u1"], object), "k": np.array(5, np.int32), **nothing}
    expected = [one.decode() for one in python_answer(exported[1]["hqgnn"]["recommend"], asked)["item_id"][0]]
    printed = run([*command, where, "u1"]).splitlines()
    assert (ast.literal_eval(printed[0]) if language == "python" else printed) == expected
