"""A missing package is named with the extra that brings it, before any work; without matplotlib there is no report."""

import json
import logging
import sys

import pytest

from tf_hqgnn import extras
from tf_hqgnn.config import Config, ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_bundle
from tf_hqgnn.export.layout import SCANN_MODEL, read_metadata
from tf_hqgnn.extras import how_to_install, missing, require
from tf_hqgnn.report.page import report_hook
from tf_hqgnn.retrieval.indices.scann import ScannIndex
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError


@pytest.mark.parametrize("extra", ["serving", "scann", "beam", "tfx", "report"])
def test_here_nothing_is_missing(extra):
    assert missing(extra) is None
    require(extra, "this test")


@pytest.mark.parametrize(("extra", "module"), [("serving", "h11"), ("beam", "apache_beam"), ("report", "matplotlib")])
def test_the_module_and_the_extra_are_named(monkeypatch, extra, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"^serve needs the package {module}: pip install 'tf_hqgnn\[{extra}\]'$"):
        require(extra, "serve")


@pytest.mark.parametrize("extra", ["scann", "tfx"])
@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "aarch64"), ("win32", "AMD64")])
def test_what_a_platform_can_not_have_is_said(monkeypatch, extra, system, machine):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(extras.platform, "machine", lambda: machine)
    assert f"has releases for Linux on x86-64 only, not for {extras.platform.system()} on {machine}" in how_to_install(
        extra
    )
    assert how_to_install("serving") == "pip install 'tf_hqgnn[serving]'"


def test_tfx_has_no_release_for_python_3_12(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    assert how_to_install("tfx").startswith("TFX has releases for Python 3.10 and 3.11 only, not for ")


@pytest.fixture(scope="module")
def run(dataset, smoke_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        train(dataset, smoke_config, folder / "run", hooks=(report_hook,))
    return RunDirectory.load(folder / "run")


def test_a_training_without_matplotlib_is_complete_but_for_the_report(run):
    assert not (run.path / "report.html").exists()
    assert json.loads((run.path / "metrics.json").read_text())["epochs"] == 3


@pytest.mark.usefixtures("run")
def test_an_index_of_scann_is_refused_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scann", None)

    def make():
        pytest.fail("the bundle was made")

    for retrieval in (RetrievalConfig(index="scann"), RetrievalConfig(num_leaves=8)):
        with pytest.raises(InputError, match=r"^retrieval.index scann needs the package scann: pip install"):
            export_bundle(make, tmp_path / "export", ExportConfig(), retrieval)
    assert not (tmp_path / "export").exists()


def test_a_large_catalogue_without_scann_gets_the_exact_index(run, monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "scann", None)
    assert ScannIndex.auto_from > 100
    monkeypatch.setattr(ScannIndex, "auto_from", 100)
    with caplog.at_level(logging.WARNING):
        export_bundle(lambda: ServingBundle.from_run(run), tmp_path, ExportConfig(), Config().retrieval)
    assert read_metadata(tmp_path / SCANN_MODEL / "1")["exact"]
    expected = "the exact index takes the place of scann, which isn't installed: pip install 'tf_hqgnn[scann]'"
    assert expected in caplog.text
