"""The wheel, from an empty folder, in environments with nothing else: newest and lowest releases, every Python."""

import sys
import zipfile
from pathlib import Path

import pytest
from clean import ROOT, SUPPORTED, Environment, Stranger, pythons, unknown_user

pytestmark = pytest.mark.install
PYTHONS = pythons()
NEWEST = max(PYTHONS, key=lambda v: int(v[2:]))
# That of the project's own environment, for which TensorFlow 2.16 and ScaNN 1.3.2 have wheels.
LOWEST = f"{sys.version_info.major}.{sys.version_info.minor}"


def visit(place, wheel, name, python, extras=(), resolution="highest"):
    """A stranger in an environment of its own."""
    environment = Environment(place / name, PYTHONS[python], wheel, extras, resolution).make()
    for folder in ("home", "out"):
        (place / f"{name}-{folder}").mkdir()
    return Stranger(environment, place / f"{name}-out", place / f"{name}-home")


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.iterdir())


@pytest.mark.parametrize("python", [version for version in SUPPORTED if version in PYTHONS])
def test_core_alone_on_every_python(place, wheel, python):
    stranger = visit(place, wheel, f"core-{python}", python)
    assert not {"scann", "tfx", "apache-beam", "matplotlib", "h11"} & stranger.environment.versions.keys()
    stranger.journey(stranger.folder)
    # No file outside the folders that were named.
    assert everything(stranger.folder) == ["export", "log.csv", "run"]
    assert everything(stranger.home) == []
    export = stranger.folder / "export"
    asked = ("batch", "--model", export / "hqgnn" / "1", "--users", "all", "--out", stranger.folder / "x.parquet")
    for command, extra in ((("serve", export), "serving"), (asked, "beam")):
        said = stranger.run(*command, code=2)
        assert said.startswith(f"tf-hqgnn: {command[0]} needs the package ")
        assert said.endswith(f": pip install 'tf_hqgnn[{extra}]'")


@pytest.mark.parametrize(
    ("name", "python", "resolution"), [("newest", NEWEST, "highest"), ("lowest", LOWEST, "lowest-direct")]
)
def test_served_from_the_newest_and_the_lowest_releases(place, wheel, name, python, resolution):
    stranger = visit(place, wheel, name, python, ("serving", "scann", "report"), resolution)
    versions = stranger.environment.versions
    expected = {"newest": ("2.20", "1.4"), "lowest": ("2.16", "1.3")}[name]
    assert (versions["tensorflow"][:4], versions["scann"][:3]) == expected
    stranger.journey(stranger.folder)
    stranger.serve(stranger.folder / "export")
    # A ScaNN index, too, is made, loaded and served.
    run, leaves = stranger.folder / "run", stranger.folder / "leaves"
    config = (run / "config.yaml").read_text().replace("num_leaves: null", "num_leaves: 8")
    (run / "config.yaml").write_text(config)
    stranger.run("export", run, "--out", leaves)
    answer = stranger.run("recommend", "--model", leaves / "hqgnn_scann" / "1", *stranger.asked)
    assert "item_id" in answer
    stranger.serve(leaves)
    assert everything(stranger.home) == []


@pytest.fixture(scope="module")
def odd(place, wheel):
    """An environment for users that have neither a name nor a home."""
    return Environment(place / "odd", PYTHONS[NEWEST], wheel, ("serving", "report")).make()


@pytest.mark.parametrize("case", ["unknown user", "no home", "read-only folder", "other temporary folder"])
def test_wherever_and_whoever(odd, place, case):
    out, cwd = place / f"odd {case}", place / f"odd {case} folder"
    stranger = Stranger(odd, cwd, place)
    out.mkdir()
    cwd.mkdir()
    if case in ("unknown user", "no home"):
        stranger.home = None
    if case == "unknown user":
        stranger.before = unknown_user()
        if not stranger.before:
            pytest.skip("user namespaces aren't allowed here")
    if case == "read-only folder":
        cwd.chmod(0o555)
    if case == "other temporary folder":
        stranger.variables["TMPDIR"] = "/dev/shm"
        assert Path("/dev/shm").stat().st_dev != Path(out).stat().st_dev
    stranger.journey(out)
    stranger.serve(out / "export")
    assert everything(cwd) == []


def test_the_wheel_carries_presets_and_pipeline_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    presets = {name.rpartition("/")[2] for name in names if name.startswith("tf_hqgnn/presets/")}
    assert presets == {path.name for path in (ROOT / "configs").glob("*.yaml")}
    template = {name for name in names if name.startswith("tf_hqgnn/pipeline_template/")}
    assert {
        f"tf_hqgnn/pipeline_template/{name}" for name in ("pipeline.py", "steps.yaml", "Dockerfile", "Dockerfile.new")
    } <= template
    assert {name.partition("/")[0] for name in names} == {"tf_hqgnn", f"tf_hqgnn-{version()}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def version():
    import tf_hqgnn

    return tf_hqgnn.__version__
