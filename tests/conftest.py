"""Shared fixtures. Importing the package first makes TensorFlow pick Keras 2 in every test."""

import gc
import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from long_tests import LONG

from tf_hqgnn.startup import collect_seldom

collect_seldom()

# The tier of the tests in a folder of tests/; those beside the folders are of the second. Unit tests start no process,
# no server and no training; tests of the pipeline run TFX.
TIERS = {
    "config": "unit",
    "data": "unit",
    "evaluation": "unit",
    "features": "unit",
    "graph": "unit",
    "layers": "unit",
    "losses": "unit",
    "metrics": "unit",
    "models": "unit",
    "ode": "unit",
    "quantization": "unit",
    "retrieval": "unit",
    "serving_manifests": "unit",
    "pipelines": "pipeline",
    "tfx": "pipeline",
    "engines": "engines",
}
# Those whose files take the longest come first: workers take files in this order, and end at about the same time.
TIERS_BY_LENGTH = ("install", "images", "docs", "engines", "java", "pipeline", "integration", "unit")
ENGINES = "tests/engines/"
# What has a command of its own stays there.
_OTHER_STAGES = ("install", "images", "docs", "engines", "java")
_ROOT = Path(__file__).resolve().parent


def pytest_collection_modifyitems(config, items):
    """Marks each test with its tier, unless it says another one itself; sorts them by it where there are workers."""
    for item in items:
        named = {item.name, item.name.partition("[")[0]} & {*LONG.get(item.path.relative_to(_ROOT).as_posix(), ())}
        if named and not any(item.get_closest_marker(stage) for stage in _OTHER_STAGES):
            item.add_marker(pytest.mark.long)
        if not any(item.get_closest_marker(tier) for tier in TIERS_BY_LENGTH):
            folder = item.path.relative_to(_ROOT).parts[0]
            item.add_marker(getattr(pytest.mark, TIERS.get(folder, "integration")))
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item):
    """Where a test comes: those of engines, which one worker runs, before the others of their tier."""
    tier = next(place for place, tier in enumerate(TIERS_BY_LENGTH) if item.get_closest_marker(tier))
    return tier, not item.nodeid.startswith(ENGINES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files as a whole go to a worker; those of engines to the same one, since one engine runs at a time."""
    from xdist.scheduler import LoadFileScheduling

    class OneEngineAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return ENGINES if nodeid.startswith(ENGINES) else super()._split_scope(nodeid)

    return OneEngineAtATime(config, log)


@pytest.fixture(autouse=True)
def log_levels():
    """Every test starts with Python's own levels, whatever programs that earlier tests and fixtures ran have set."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("tf_hqgnn.serving").setLevel(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    """What earlier files have left is searched for garbage once: TensorFlow's graphs make each search take seconds."""
    gc.collect()
    gc.freeze()


REAL_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def log_path(tmp_path_factory):
    """A generated log of 600 users, 400 items and 12,000 interactions, with its items file beside it."""
    from tf_hqgnn.data.synthetic import generate_log, write_log

    folder = tmp_path_factory.mktemp("log")
    write_log(generate_log(600, 400, 12000, seed=7), folder / "interactions.csv", folder / "items.csv")
    return folder / "interactions.csv"


@pytest.fixture(scope="session")
def dataset(log_path):
    """The generated log, split at random per user."""
    from tf_hqgnn.config import DataConfig
    from tf_hqgnn.data.loading import load_dataset

    return load_dataset(DataConfig(path=str(log_path)), seed=1)


@pytest.fixture(scope="session")
def smoke_config():
    """Settings that train in seconds."""
    from tf_hqgnn.config import Config

    return Config.load(Path(__file__).resolve().parent.parent / "configs" / "smoke.yaml")


@pytest.fixture(scope="session")
def run_command(tmp_path_factory):
    """Runs `tf-hqgnn ARGUMENTS` in a process of its own: `commands.Commands`."""
    from commands import MODULES, Commands, environment_with
    from warm_python import WarmPython

    folder = tmp_path_factory.mktemp("commands")
    with WarmPython(folder, MODULES, environment_with()) as python:
        yield Commands(python, folder)
