"""`tf-hqgnn pipeline new | run | compile`: a folder of one's own, and the same options as the runners have."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tf_hqgnn.cli.pipeline import Platform

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; sys.argv[0] = 'tf-hqgnn'; from tf_hqgnn.cli.commands import main; main()"


def pipeline(*arguments, folder):
    """Runs `tf-hqgnn pipeline ARGUMENTS` in a folder, in a process of its own: it imports what lies there."""
    command = [sys.executable, "-c", COMMAND, "pipeline", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    done = pipeline("new", "shop", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "tf-hqgnn pipeline run --dir shop" in done.stdout
    return folder / "shop"


def test_new_writes_what_a_user_edits_and_nothing_of_the_repository_s_own(mine):
    names = {path.name for path in mine.iterdir()}
    assert {"pipeline.py", "run_local.py", "run_kubeflow.py", "steps.yaml", "kubernetes", "README.md"} <= names
    assert not {"demo.py", "Dockerfile", "__pycache__"} & names
    for path in mine.glob("*.py"):
        assert "from pipelines" not in path.read_text(), f"{path.name} would run the project's pipeline"


def test_compile_compiles_what_the_folder_holds(mine):
    (mine / "steps.yaml").write_text("all: {cpu: 3}")
    text = (mine / "pipeline.py").read_text().replace("InfraCheck(**", "InfraCheck(timeout_seconds=77, **")
    (mine / "pipeline.py").write_text(text)
    options = ["--image", "example/shop:1", "--data", "/mnt/data/log.csv", "--config", "spectral", "--min-lift", "1.5"]
    done = pipeline("compile", "--dir", mine, *options, "--out", "shop.yaml", folder=mine.parent)
    assert done.returncode == 0, done.stderr
    spec = yaml.safe_load((mine.parent / "shop.yaml").read_text())
    assert spec["root"]["dag"]["tasks"]["InfraCheck"]["inputs"]["parameters"]["timeout_seconds"] == {
        "runtimeValue": {"constant": 77}
    }
    container = spec["deploymentSpec"]["executors"]["Trainer_executor"]["container"]
    assert container["resources"]["cpuLimit"] == 3
    # A preset by its name, and a threshold.
    assert "max_epochs: 0" in str(spec["root"]["dag"]["tasks"]["Trainer"])
    assert '"min_lift": 1.5' in spec["root"]["inputDefinitions"]["parameters"]["thresholds"]["defaultValue"]


def test_the_folder_beside_is_found_without_its_name(mine):
    done = pipeline("run", "--out", mine.parent / "out", "--data", "no.csv", folder=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no.csv: no such file" in done.stderr
    inside = pipeline("run", "--out", mine.parent / "out", "--data", "no.csv", folder=mine)
    assert "no.csv: no such file" in inside.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "shop"], "shop exists, and nothing is overwritten"),
        (["new", "my-shop"], "my-shop: Python can't import a folder of that name"),
        (["new", "class"], "class: Python can't import a folder of that name"),
        (["new", "no/shop"], "is no folder; make it, or choose another place"),
        (["run", "--out", "out"], "holds no pipeline (pipeline.py, run_local.py, run_kubeflow.py): write one with"),
        (["run", "--out", "out", "--dir", "none"], "none holds no pipeline"),
    ],
)
def test_a_mistake_is_one_line(mine, arguments, message):
    done = pipeline(*arguments, folder=mine.parent)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.stderr
    assert message in done.stderr


def test_without_tfx_the_extra_is_named(mine):
    blocked = "import sys; sys.modules['tfx'] = None\n"
    command = [sys.executable, "-c", blocked + COMMAND, "pipeline", "run", "--dir", str(mine), "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "tf-hqgnn: the pipeline needs the package tfx: pip install 'tf_hqgnn[tfx]'\n"


def test_nobody_without_a_home_can_use_tfx(tmp_path):
    """OpenShift runs containers under ids without a name or a home; nltk, which TFX brings, fails there by itself."""
    somebody = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    if subprocess.run([*somebody, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces aren't allowed here")
    options = ["--image", "example/shop:1", "--data", "/mnt/data/log.csv", "--out", tmp_path / "shop.yaml"]
    command = [*somebody, sys.executable, "-c", COMMAND, "pipeline", "compile", *map(str, options)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shop.yaml").is_file()


def test_platforms_are_those_that_the_compiler_knows():
    from pipelines.kubeflow_spec import Platform as known

    assert {platform.value for platform in Platform} == {*known.__args__, "both"}
