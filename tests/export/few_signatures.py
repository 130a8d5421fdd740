"""Exports with few signatures: to trace all of them takes most of the time of a test that looks at something else."""

from typing import Any

import pytest

import tf_hqgnn.export.bundle
from tf_hqgnn.export.module import ServingModule


def export_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let exports have the signatures `names` and no others; their warm-up records stay those of all."""
    make = tf_hqgnn.export.bundle.make_module

    def make_few(*arguments: Any) -> ServingModule:
        module = make(*arguments)
        assert set(names) <= set(module.signatures())
        module.keep(names)
        return module

    monkeypatch.setattr(tf_hqgnn.export.bundle, "make_module", make_few)
