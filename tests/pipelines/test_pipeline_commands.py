"""`tf-hqgnn pipeline new | run | compile`: a folder of one's own, and the same options as the runners have."""

import re
import subprocess
import sys

import pytest
import yaml
from build_context import sent
from commands import CONSOLE_SCRIPT, Commands, run_fresh
from warm_python import ROOT

from tf_hqgnn import __version__
from tf_hqgnn.cli.pipeline import Platform


@pytest.fixture(scope="module")
def pipeline(container_python, tmp_path_factory):
    """Runs `tf-hqgnn pipeline ARGUMENTS` in a folder, in a process of its own: it imports what lies there."""
    commands = Commands(container_python, tmp_path_factory.mktemp("printed"))

    def run(*arguments, folder):
        return commands("pipeline", *arguments, cwd=folder, HOME=str(folder))

    return run


@pytest.fixture(scope="module")
def mine(tmp_path_factory, pipeline):
    folder = tmp_path_factory.mktemp("mine")
    done = pipeline("new", "shop", folder=folder)
    assert done.code == 0, done.err
    assert "tf-hqgnn pipeline run --dir shop" in done.out
    return folder / "shop"


def test_new_writes_what_a_user_edits_and_nothing_of_the_repository_s_own(mine):
    names = {path.name for path in mine.iterdir()}
    assert {"pipeline.py", "run_local.py", "run_kubeflow.py", "steps.yaml", "kubernetes", "README.md"} <= names
    assert not {"demo.py", "Dockerfile.new", "build_image.sh", "__pycache__"} & names
    for path in mine.glob("*.py"):
        assert "from pipelines" not in path.read_text(), f"{path.name} would run the project's pipeline"


def test_new_writes_a_dockerfile_that_installs_the_release_and_copies_the_folder(mine):
    """`make images` builds it."""
    text = (mine / "Dockerfile").read_text()
    assert f'ARG TF_HQGNN="tf_hqgnn[tfx]=={__version__}"' in text
    assert "COPY . /opt/app/shop\n" in text
    assert not re.search("@[A-Z]+@", text)
    hadolint = ROOT / ".venv-serving" / "bin" / "hadolint"
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", mine / "Dockerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    # uv is the one of the repository's own image.
    (uv,) = re.findall(r'echo "(uv==\S+) --hash=sha256:(\w+)"', text)
    lock = (ROOT / "supply_chain" / "requirements-uv.lock").read_text()
    assert all(part in lock for part in uv)


def test_what_is_copied_into_the_image_of_a_new_folder(mine):
    (mine / ".env").write_text("secret")
    (mine / "log.csv").write_text("secret")
    (mine / "wheels" / "shop-1-py3-none-any.whl").write_text("")
    names = sent(mine)
    (mine / ".env").unlink()
    assert {"pipeline.py", "run_local.py", "steps.yaml", "wheels/.keep", "wheels/shop-1-py3-none-any.whl"} <= names
    assert not {".env", "log.csv", ".dockerignore"} & names


def test_compile_compiles_what_the_folder_holds(mine, pipeline):
    (mine / "steps.yaml").write_text("all: {cpu: 3}")
    text = (mine / "pipeline.py").read_text().replace("InfraCheck(**", "InfraCheck(timeout_seconds=77, **")
    (mine / "pipeline.py").write_text(text)
    options = ["--image", "example/shop:1", "--data", "/mnt/data/log.csv", "--config", "spectral", "--min-lift", "1.5"]
    done = pipeline("compile", "--dir", mine, *options, "--out", "shop.yaml", folder=mine.parent)
    assert done.code == 0, done.err
    spec = yaml.safe_load((mine.parent / "shop.yaml").read_text())
    assert spec["root"]["dag"]["tasks"]["InfraCheck"]["inputs"]["parameters"]["timeout_seconds"] == {
        "runtimeValue": {"constant": 77}
    }
    container = spec["deploymentSpec"]["executors"]["Trainer_executor"]["container"]
    assert container["resources"]["cpuLimit"] == 3
    # A preset by its name, and a threshold.
    assert "max_epochs: 0" in str(spec["root"]["dag"]["tasks"]["Trainer"])
    assert '"min_lift": 1.5' in spec["root"]["inputDefinitions"]["parameters"]["thresholds"]["defaultValue"]


def test_the_folder_beside_is_found_without_its_name(mine, pipeline):
    done = pipeline("run", "--out", mine.parent / "out", "--data", "no.csv", folder=ROOT)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "no.csv: no such file" in done.err
    inside = pipeline("run", "--out", mine.parent / "out", "--data", "no.csv", folder=mine)
    assert "no.csv: no such file" in inside.err


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
def test_a_mistake_is_one_line(mine, pipeline, arguments, message):
    done = pipeline(*arguments, folder=mine.parent)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done.err
    assert message in done.err


def test_without_tfx_the_extra_is_named(mine):
    blocked = f"import sys; sys.modules['tfx'] = None; {CONSOLE_SCRIPT}"
    done = run_fresh("pipeline", "run", "--dir", mine, "--out", "out", code=blocked)
    assert done.code == 2
    assert done.err == "tf-hqgnn: the pipeline needs the package tfx: pip install 'tf_hqgnn[tfx]'\n"


def test_nobody_without_a_home_can_use_tfx(tmp_path):
    """OpenShift runs containers under ids without a name or a home; nltk, which TFX brings, fails there by itself."""
    somebody = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    if subprocess.run([*somebody, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces aren't allowed here")
    options = ["--image", "example/shop:1", "--data", "/mnt/data/log.csv", "--out", tmp_path / "shop.yaml"]
    command = [*somebody, sys.executable, "-c", CONSOLE_SCRIPT, "pipeline", "compile", *map(str, options)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shop.yaml").is_file()


def test_platforms_are_those_that_the_compiler_knows():
    from pipelines.kubeflow_spec import Platform as known

    assert {platform.value for platform in Platform} == {*known.__args__, "both"}
