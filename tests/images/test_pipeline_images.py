"""The images of the pipeline's steps: their layers, their rights, and every step run in one of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from builder import BASE, ROOT, Container, run
from kubeflow_harness import Cluster

from tf_hqgnn.data.synthetic import generate_log, write_log

pytestmark = pytest.mark.images

IMAGE = "localhost/tf-hqgnn:test"
OWN = "localhost/tf-hqgnn-shop:test"
STANDARD, UNKNOWN = (1000, 1000), (54321, 0)
SETTINGS = """
model: {embedding_dim: 16}
training: {batch_size: 256, max_epochs: 2, patience: 2, steps_per_execution: 4, jit_compile: false}
quantization: {bits: 4, distillation: {max_epochs: 1}}
evaluation: {k: [20]}
"""
# Of the harness's environment; the rest is the image's own.
TOLD = ("KUBEFLOW_MOUNT_ROOT", "KFP_POD_NAME", "KFP_POD_UID")


@pytest.fixture(scope="module")
def image(builder, checkout):
    return builder.build(
        checkout / "pipelines" / "Dockerfile", IMAGE, "--build-arg", f"BASE_IMAGE={BASE}", context=checkout
    )


class Pods:
    """Runs the commands of steps in an image, as Kubernetes would."""

    def __init__(self, builder, image: str, folder: Path, user: tuple[int, int]) -> None:
        self.volumes = folder / "mnt"
        for name in ("data", "models", "store"):
            (self.volumes / name).mkdir(parents=True)
        self._folder, self._user = folder, user
        self.container = Container(builder.mount(image), builder.inspect(image), user, {"/mnt": self.volumes})

    def run_in(self, folder: Path, log: Path, command: list[str], environment: dict[str, str]) -> int:
        """One step: `folder` is in a pod, which the step sees under the same name."""
        pod = folder.parent
        for place in (pod, self.volumes):
            run("chown", "-R", "{}:{}".format(*self._user), place)
        self.container.mounts = {"/mnt": self.volumes, str(pod): pod}
        told = {name: environment[name] for name in TOLD if name in environment}
        done = self.container.run(command, told, cwd=str(folder))
        log.write_text(done.stdout + done.stderr)
        return done.returncode


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "config.yaml").write_text(SETTINGS)
    options = ["--image", "example/tf-hqgnn:1", "--config", folder / "config.yaml", "--out", folder / "pipeline.yaml"]
    options += ["--data", "/mnt/data/log.csv", "--items", "/mnt/data/items.csv", "--min-lift", "0"]
    run(
        sys.executable,
        "-m",
        "pipelines.run_kubeflow",
        *options,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))


def cluster(builder, image: str, spec: dict, folder: Path, user: tuple[int, int]) -> tuple[Cluster, Pods]:
    pods = Pods(builder, image, folder, user)
    data = pods.volumes / "data"
    write_log(generate_log(300, 200, 6000, seed=7), data / "log.csv", data / "items.csv")
    return Cluster(folder, spec, pods), pods


def test_every_step_runs_as_an_unknown_user_on_a_read_only_root(builder, image, spec, tmp_path):
    found, pods = cluster(builder, image, spec, tmp_path, UNKNOWN)
    found.run()
    for model in ("hqgnn", "hqgnn_scann"):
        assert (pods.volumes / "models" / model / "1" / "saved_model.pb").is_file()
    assert json.loads((pods.volumes / "store" / "latest_blessed.json").read_text())["version"] == 1
    for task in spec["root"]["dag"]["tasks"]:
        for complaint in ("Matplotlib created a temporary", "not a writable directory", "Permission denied"):
            assert complaint not in found.log(task), f"{task}: {found.log(task)}"


def test_the_first_steps_run_as_the_image_s_own_user(builder, image, spec, tmp_path):
    found, _ = cluster(builder, image, spec, tmp_path, STANDARD)
    values = {name: given["defaultValue"] for name, given in spec["root"]["inputDefinitions"]["parameters"].items()}
    for task in ("RunCheck", "InteractionGen"):
        found.run_task(task, values)


def test_a_change_of_code_makes_one_small_layer(builder, image, checkout):
    before = builder.layers(image)
    *_, (_, size) = before.items()
    assert size < 20_000_000
    module = checkout / "tf_hqgnn" / "types.py"
    module.write_text(module.read_text() + "\n# changed\n")
    changed = builder.build(
        checkout / "pipelines" / "Dockerfile", f"{IMAGE}-changed", "--build-arg", f"BASE_IMAGE={BASE}", context=checkout
    )
    after = builder.layers(changed)
    assert list(after)[:-1] == list(before)[:-1]
    assert list(after)[-1] != list(before)[-1]


def test_what_the_image_weighs(builder, image):
    """Tensorflow in place of tensorflow-cpu would add 740 MB."""
    assert sum(builder.layers(image).values()) < 3_300_000_000


@pytest.mark.parametrize("user", [STANDARD, UNKNOWN])
def test_kubeflow_s_folders_can_be_written(builder, image, user):
    root = builder.mount(image)
    for name in ("gcs", "s3", "minio", "home/hqgnn"):
        info = (root / name).stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (1000, 0, 0o775), name
    # On a root that is no longer read-only, as Kubernetes has it by default.
    container = Container(root, builder.inspect(image), user, readonly=False)
    done = container.run(["sh", "-c", "touch /gcs/a-$$ /s3/a-$$ /minio/a-$$ /home/hqgnn/a-$$"])
    assert done.returncode == 0, done.stderr


def test_a_new_folder_s_own_image_runs_its_steps(builder, checkout, spec, tmp_path):
    """What `tf-hqgnn pipeline new` wrote, with a wheel of this checkout in place of the released one."""
    command = "from tf_hqgnn.cli.commands import main; main()"
    run(
        sys.executable,
        "-c",
        command,
        "pipeline",
        "new",
        "shop",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    shop = tmp_path / "shop"
    (shop / "mine.py").write_text("ANSWER = 42\n")
    (shop / ".env").write_text("secret")
    build = [ROOT / ".venv" / "bin" / "uv", "build", "--quiet", "--wheel", "--no-build-isolation"]
    run(*build, "--python", sys.executable, "--out-dir", shop / "wheels", checkout)
    builder.build(shop / "Dockerfile", OWN, "--build-arg", f"BASE_IMAGE={BASE}", context=shop)
    found, pods = cluster(builder, OWN, spec, tmp_path, UNKNOWN)
    inside = pods.container.run(
        [
            "python",
            "-c",
            "import tf_hqgnn, tensorflow_probability, scann, shop.mine, shop.pipeline; print(shop.mine.ANSWER)",
        ]
    )
    assert inside.stdout.strip() == "42", inside.stderr
    # The wheel carries all of the template.
    again = pods.container.run(["sh", "-c", "cd /tmp && tf-hqgnn pipeline new other && cat other/Dockerfile"])
    assert "COPY . /opt/app/other" in again.stdout, again.stderr
    assert not pods.container.run(["find", "/opt/app/shop", "-name", ".env*"]).stdout
    values = {name: given["defaultValue"] for name, given in spec["root"]["inputDefinitions"]["parameters"].items()}
    for task in ("RunCheck", "InteractionGen"):
        found.run_task(task, values)
