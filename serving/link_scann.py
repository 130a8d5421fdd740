"""Edits the sources of TF Serving and ScaNN so that the model server links ScaNN's ops; run by Dockerfile.scann.

Three edits, each refused where the sources aren't as expected, since bazel would build a server without the ops:

* `scann_ops_static` in ScaNN: ops and kernels as one library that the linker must keep;
* ScaNN takes TensorFlow's headers from TF Serving's own TensorFlow instead of an installed wheel's;
* `SUPPORTED_TENSORFLOW_OPS` of the server names `scann_ops_static`, and its workspace the repository.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

TARGET = "@com_google_scann//scann/scann_ops/cc:scann_ops_static"
STATIC = """
cc_library(
    name = "scann_ops_static",
    alwayslink = 1,
    deps = [
        ":scann_ops",
        ":scann_ops_kernels",
    ],
)
"""


class UnexpectedSource(Exception):
    """A file isn't as the edit needs it."""


def replace(path: Path, pattern: str, replacement: str, what: str) -> None:
    """Replaces the one match of `pattern`.

    Raises:
      UnexpectedSource: The file is missing, or has no match or several.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnexpectedSource(f"{path}: not found, expected {what}; is this the release that was pinned?") from None
    text, count = re.subn(pattern, lambda match: match.expand(replacement), text, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise UnexpectedSource(
            f"{path}: expected {what} once, found it {count} times; adapt link_scann.py to this release"
        )
    path.write_text(text, encoding="utf-8")


def edit_scann(root: Path) -> None:
    """Adds `scann_ops_static`, removes the Python bindings, takes TensorFlow from TF Serving's workspace."""
    ops = root / "scann/scann_ops/cc/BUILD.bazel"
    replace(ops, r'^load\("@pybind11_bazel//:build_defs\.bzl", "pybind_library"\)\n', "", "pybind11's load()")
    replace(ops, r"^pybind_library\(\n.*?^\)\n", "", "pybind_library()")
    replace(ops, r'^cc_library\(\n    name = "scann_ops",', STATIC.lstrip() + r"\n\g<0>", 'cc_library "scann_ops"')
    replace(
        root / "scann/oss_wrappers/BUILD.bazel",
        r'"@local_config_tf//:libtensorflow_framework",\s*"@local_config_tf//:tf_header_lib",',
        '"@org_tensorflow//tensorflow/core:tensorflow_opensource",',
        "the two targets of @local_config_tf",
    )


def edit_serving(root: Path, scann: Path) -> None:
    """Links the target, and makes `scann` a repository of the workspace."""
    replace(
        root / "tensorflow_serving/model_servers/BUILD",
        r'^(SUPPORTED_TENSORFLOW_OPS = [^\n]*\n.*?"@org_tensorflow_text//tensorflow_text:ops_lib",\n)',
        rf'\1    "{TARGET}",\n',
        "SUPPORTED_TENSORFLOW_OPS with TensorFlow Text's ops",
    )
    replace(
        root / "WORKSPACE",
        r"\Z",
        f'\nlocal_repository(\n    name = "com_google_scann",\n    path = "{scann}",\n)\n',
        "the end of the file",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Edits both trees; 2 with one line on standard error if one isn't as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serving", type=Path, required=True, help="sources of TF Serving 2.16")
    parser.add_argument("--scann", type=Path, required=True, help="the folder scann/ of ScaNN 1.3.2's sources")
    flags = parser.parse_args(argv)
    try:
        edit_scann(flags.scann)
        edit_serving(flags.serving, flags.scann)
    except UnexpectedSource as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
