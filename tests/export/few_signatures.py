"""Exports with few signatures: to trace all of them takes most of the time of a test that looks at something else."""

import pytest

from tf_hqgnn.export.module import ServingModule


def export_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let exports have the signatures `names` and no others; their warm-up records stay those of all."""
    every = [name for name in dir(ServingModule) if hasattr(getattr(ServingModule, name), "get_concrete_function")]
    assert set(names) <= set(every)
    of_all = ServingModule.signatures
    for name in set(every) - set(names):
        monkeypatch.setattr(ServingModule, name, None)
    monkeypatch.setattr(
        ServingModule, "signatures", lambda self: {name: f for name, f in of_all(self).items() if f is not None}
    )
