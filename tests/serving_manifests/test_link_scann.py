"""The edits that link ScaNN into TF Serving, on BUILD files of the form that both projects have."""

from __future__ import annotations

import link_scann
import pytest

OPS = """load("@pybind11_bazel//:build_defs.bzl", "pybind_library")

cc_library(
    name = "scann_ops",
    srcs = ["ops/scann_ops.cc"],
    alwayslink = 1,
)

cc_library(
    name = "scann_ops_kernels",
    alwayslink = 1,
)

pybind_library(
    name = "scann_npy",
    deps = [
        ":scann",
    ],
)
"""
WRAPPERS = """cc_library(
    name = "tf_dependency",
    deps = [
        "@local_config_tf//:libtensorflow_framework",
        "@local_config_tf//:tf_header_lib",
    ],
)
"""
SERVER = """SOMETHING = ["//x"]

SUPPORTED_TENSORFLOW_OPS = if_v2([]) + if_not_v2([
    "@org_tensorflow//tensorflow/contrib:contrib_kernels",
]) + [
    "@org_tensorflow_text//tensorflow_text:ops_lib",
]

cc_library(
    name = "server_lib",
)
"""


@pytest.fixture
def trees(tmp_path):
    """Folders of TF Serving and ScaNN."""
    files = {
        "serving/tensorflow_serving/model_servers/BUILD": SERVER,
        "serving/WORKSPACE": 'workspace(name = "tf_serving")\n',
        "scann/scann/scann_ops/cc/BUILD.bazel": OPS,
        "scann/scann/oss_wrappers/BUILD.bazel": WRAPPERS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(trees) -> int:
    return link_scann.main(["--serving", str(trees / "serving"), "--scann", str(trees / "scann")])


def rules(path) -> dict[str, dict]:
    """BUILD files are Python as far as these go: name of a target -> its other attributes, and what is assigned."""
    found: dict[str, dict] = {}

    def rule(name, **attributes):
        found[name] = attributes

    functions = ("cc_library", "pybind_library", "workspace", "local_repository", "load")
    scope: dict[str, object] = {**dict.fromkeys(functions, rule), "if_v2": list, "if_not_v2": list}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return {**found, "ops": {"list": scope.get("SUPPORTED_TENSORFLOW_OPS")}}


def test_the_server_links_the_ops(trees):
    assert run(trees) == 0
    server = rules(trees / "serving/tensorflow_serving/model_servers/BUILD")
    assert server["ops"]["list"][-2:] == [
        "@org_tensorflow_text//tensorflow_text:ops_lib",
        "@com_google_scann//scann/scann_ops/cc:scann_ops_static",
    ]
    assert "server_lib" in server
    workspace = rules(trees / "serving/WORKSPACE")
    assert workspace["com_google_scann"] == {"path": str(trees / "scann")}
    ops = rules(trees / "scann/scann/scann_ops/cc/BUILD.bazel")
    assert ops["scann_ops_static"] == {"alwayslink": 1, "deps": [":scann_ops", ":scann_ops_kernels"]}
    assert {"scann_ops", "scann_ops_kernels"} < set(ops)
    assert not {"scann_npy", "@pybind11_bazel//:build_defs.bzl"} & set(ops)
    wrappers = rules(trees / "scann/scann/oss_wrappers/BUILD.bazel")
    assert wrappers["tf_dependency"]["deps"] == ["@org_tensorflow//tensorflow/core:tensorflow_opensource"]


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            "scann/scann/oss_wrappers/BUILD.bazel",
            "tf_header_lib",
            "headers",
            "the two targets of @local_config_tf once, found it 0",
        ),
        (
            "scann/scann/scann_ops/cc/BUILD.bazel",
            '"scann_ops",',
            '"ops",',
            'cc_library "scann_ops" once, found it 0 times',
        ),
        (
            "serving/tensorflow_serving/model_servers/BUILD",
            "SUPPORTED_TENSORFLOW_OPS",
            "OPS",
            "expected SUPPORTED_TENSORFLOW_OPS with TensorFlow Text's ops once, found it 0 times; adapt link_scann.py",
        ),
    ],
)
def test_sources_of_another_release_stop_the_build(trees, capsys, path, old, new, expected):
    text = (trees / path).read_text()
    (trees / path).write_text(text.replace(old, new))
    assert run(trees) == 2
    assert expected in capsys.readouterr().err


def test_a_missing_tree_stops_the_build(trees, capsys):
    (trees / "scann/scann/oss_wrappers/BUILD.bazel").unlink()
    assert run(trees) == 2
    assert "not found, expected the two targets of @local_config_tf; is this the release" in capsys.readouterr().err
