"""Every example in a docstring of the package is executed."""

import doctest
import importlib
import pkgutil

import pytest

import tf_hqgnn

MODULES = [module.name for module in pkgutil.walk_packages(tf_hqgnn.__path__, "tf_hqgnn.") if not module.ispkg]


def test_the_walk_finds_the_modules():
    assert "tf_hqgnn.losses.batch_losses" in MODULES
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
