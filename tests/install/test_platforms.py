"""What the wheel would install on every platform, extra by extra.

A file of its own, since it waits for the index most of the time: another worker of pytest makes environments meanwhile.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from clean import SUPPORTED, UV

pytestmark = pytest.mark.install
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")
EXTRAS = ("", "serving", "scann", "beam", "tfx", "report", "docs", "dev", "all")


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
