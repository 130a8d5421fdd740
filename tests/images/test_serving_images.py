"""The layers that the serving images add: files that their user can read, probes, and ScaNN's sources."""

from __future__ import annotations

import sys

import pytest
from builder import BASE, ROOT, Container, make_private, run

sys.path.append(str(ROOT / "tests" / "serving_manifests"))
sys.path.append(str(ROOT / "serving"))

import test_link_scann as scann_sources

pytestmark = pytest.mark.images

# What stands in for bazel: it refuses sources without ScaNN's ops, and writes a server with their name in it.
BAZEL = """#!/bin/sh
set -e
[ "$1" = build ] || exit 0
grep -q com_google_scann tensorflow_serving/model_servers/BUILD
grep -q '"/google-research/scann"' WORKSPACE
grep -q scann_ops_static /google-research/scann/scann/scann_ops/cc/BUILD.bazel
mkdir -p bazel-bin/tensorflow_serving/model_servers
printf 'Scann>ScannSearchBatched' > bazel-bin/tensorflow_serving/model_servers/tensorflow_model_server
"""
DEVEL = """
FROM {base}
RUN apt-get update && apt-get install --yes --no-install-recommends git
COPY bazel /usr/local/bin/bazel
COPY serving /tensorflow-serving
COPY research /research
"""


@pytest.fixture(scope="module")
def context(checkout):
    """The checkout with an export of both models, made under umask 077."""
    for model in ("hqgnn", "hqgnn_scann"):
        version = checkout / "export" / model / "1"
        (version / "variables").mkdir(parents=True, exist_ok=True)
        (version / "saved_model.pb").write_text("model")
        (version / "variables" / "variables.index").write_text("index")
    make_private(checkout)
    return checkout


@pytest.fixture(scope="module")
def devel(builder, tmp_path_factory):
    """An image in place of TF Serving's for development, and the commit of the sources in it."""
    folder = tmp_path_factory.mktemp("devel")
    files = {
        "serving/tensorflow_serving/model_servers/BUILD": scann_sources.SERVER,
        "serving/WORKSPACE": 'workspace(name = "tf_serving")\n',
        "research/scann/scann/scann_ops/cc/BUILD.bazel": scann_sources.OPS,
        "research/scann/scann/oss_wrappers/BUILD.bazel": scann_sources.WRAPPERS,
        "research/other/file": "of another project",
        "bazel": BAZEL,
        "Dockerfile": DEVEL.format(base=BASE),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "bazel").chmod(0o755)
    git = ["git", "-C", folder / "research", "-c", "user.name=a", "-c", "user.email=a@host.example"]
    run(*git, "init", "--quiet")
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "--message", "1.3.2")
    for name in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        run(*git, "config", name, "true")
    commit = run(*git, "rev-parse", "HEAD").strip()
    return builder.build(folder / "Dockerfile", "localhost/tf-hqgnn-devel:test", context=folder), commit


@pytest.fixture(scope="module")
def images(builder, context, devel):
    image, commit = devel
    serving = context / "serving"
    arguments = ["BUILD_IMAGE=" + image, "SCANN_COMMIT=" + commit, "SCANN_REPOSITORY=file:///research", "IMAGE=" + BASE]
    scann = [word for argument in arguments for word in ("--build-arg", argument)]
    gpu = ["--build-arg", f"IMAGE={BASE}"]
    return {
        "hqgnn": builder.build(serving / "Dockerfile.gpu", "localhost/hqgnn-gpu:test", *gpu, context=context),
        "hqgnn_scann": builder.build(
            serving / "Dockerfile.scann", "localhost/hqgnn-scann:test", *scann, context=context
        ),
    }


@pytest.mark.parametrize("model", ["hqgnn", "hqgnn_scann"])
def test_the_user_of_the_image_reads_model_and_configs(builder, images, model):
    config = builder.inspect(images[model])
    container = Container(builder.mount(images[model]), config)
    done = container.run(
        ["sh", "-c", "id -u && find /models /etc/tf_serving -type f -exec cat {} + > /tmp/all && wc -c < /tmp/all"]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "1000"
    assert (container.root / "models" / model / "1" / "saved_model.pb").read_text() == "model"


@pytest.mark.parametrize("model", ["hqgnn", "hqgnn_scann"])
def test_the_image_has_its_health_check_and_no_shell_in_front(builder, images, model):
    config = builder.inspect(images[model])["config"]
    assert config["Healthcheck"]["Test"] == ["CMD", "bash", "/etc/tf_serving/available.sh", "8501", model]
    assert config["Entrypoint"][0] == "/usr/bin/tensorflow_model_server"
    assert config["User"] == "1000:1000"


def test_scann_s_server_is_the_one_that_was_built(builder, images):
    server = builder.mount(images["hqgnn_scann"]) / "usr/bin/tensorflow_model_server"
    assert server.read_text() == "Scann>ScannSearchBatched"


def test_another_commit_than_the_named_one_stops_the_build(builder, context, devel):
    image, commit = devel
    wrong = commit[:-1] + ("0" if commit[-1] != "0" else "1")
    arguments = [f"BUILD_IMAGE={image}", f"SCANN_COMMIT={wrong}", "SCANN_REPOSITORY=file:///research", f"IMAGE={BASE}"]
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    with pytest.raises(AssertionError, match="not our ref"):
        builder.build(
            context / "serving" / "Dockerfile.scann", "localhost/hqgnn-scann:wrong", *options, context=context
        )


def test_the_rules_of_dockerignore_are_those_that_are_tested(builder, context, tmp_path):
    """What buildah sends of a checkout is what tests/build_context.py says."""
    from build_context import sent

    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    root = builder.mount(
        builder.build(tmp_path / "Dockerfile", "localhost/tf-hqgnn-context:test", "--no-cache", context=context)
    )
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == sent(context)
