"""The wheel, from an empty folder, in environments with nothing else: newest and lowest releases, every Python."""

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clean import ROOT, SUPPORTED, UV, Environment, Stranger, pythons, unknown_user

pytestmark = pytest.mark.install
PYTHONS = pythons()
NEWEST = max(PYTHONS, key=lambda v: int(v[2:]))
# That of the project's own environment, for which TensorFlow 2.16 and ScaNN 1.3.2 have wheels.
LOWEST = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")
EXTRAS = ("", "serving", "scann", "beam", "tfx", "report", "docs", "dev", "all")


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


@pytest.fixture(scope="module")
def resolved(place, wheel):
    """(extra, platform, Python) -> what `uv pip compile` would install, or why it can't."""
    wanted = [
        (extra, platform, python)
        for extra in EXTRAS
        for platform in PLATFORMS
        # TFX has releases for the one and none for the other.
        for python in (("3.11", "3.12") if extra in ("tfx", "all") else (SUPPORTED[-1],))
    ]

    def resolve(number: int) -> str | dict[str, str]:
        extra, platform, python = wanted[number]
        requirements = place / f"requirements-{number}.in"
        # The wheel: of a checkout, uv would build the metadata each time.
        requirements.write_text(f"tf_hqgnn{extra and f'[{extra}]'} @ {wheel.as_uri()}")
        target = ("--python-version", python, "--python-platform", platform)
        done = subprocess.run(
            [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", *target, requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line.partition(" ;")[0] for line in done.stdout.splitlines() if "==" in line]
        return done.stderr if done.returncode else dict(line.split("==") for line in lines)

    # What takes time is asking the index.
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(wanted, pool.map(resolve, range(len(wanted)))))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_resolves_for_every_platform(resolved, extra, platform):
    answers = {python: found for (e, p, python), found in resolved.items() if (e, p) == (extra, platform)}
    assert answers
    for python, found in answers.items():
        assert isinstance(found, dict), f"{python}: {found}"
        minors = {found[name].rsplit(".", 1)[0] for name in ("tensorflow", "tf-keras", "tensorflow-serving-api")}
        assert len(minors) == 1, f"{python}: {found}"
        here = platform == PLATFORMS[0]
        assert ("scann" in found) == (here and extra in ("scann", "tfx", "all"))
        assert ("tfx" in found) == (here and extra in ("tfx", "all") and python == "3.11")


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
