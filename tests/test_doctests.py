"""Every example in a docstring of the package is executed."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import tf_hqgnn

MODULES = [module.name for module in pkgutil.walk_packages(tf_hqgnn.__path__, "tf_hqgnn.") if not module.ispkg]
ROOT = Path(tf_hqgnn.__file__).resolve().parents[1]


def has_examples(name):
    return ">>> " in (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")


WITH_EXAMPLES = [name for name in MODULES if has_examples(name)]


def test_the_walk_finds_the_modules():
    assert "tf_hqgnn.graph.csr" in WITH_EXAMPLES
    # A module without an example is imported by whatever test it has; those with one are most of the package's maths.
    assert len(WITH_EXAMPLES) > 60


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    # An example in a private or an unreachable place would be run by nobody.
    assert result.attempted > 0
