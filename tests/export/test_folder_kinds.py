"""What is said of the wrong folder: what it is, and which one to name."""

import pytest

from tf_hqgnn.export.folder_kinds import not_a_run, not_a_version, not_an_export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export of two models, a training run, a study and a file."""
    folder = tmp_path_factory.mktemp("kinds")
    for name in ("export/hqgnn/9", "export/hqgnn/10", "export/hqgnn_scann/10", "run", "study", "empty"):
        (folder / name).mkdir(parents=True)
    for name in ("export/hqgnn/9", "export/hqgnn/10", "export/hqgnn_scann/10"):
        (folder / name / "saved_model.pb").touch()
    for name in ("run/metrics.json", "run/config.yaml", "study/study.db", "file"):
        (folder / name).touch()
    return folder


VERSIONS = {
    "export/hqgnn/9": None,
    "export/hqgnn": "holds versions of a model: use --model {}/export/hqgnn/10",
    "export": "holds models, not a version: use --model {}/export/hqgnn/10",
    "run": "is a training run: export it first, tf-hqgnn export {}/run --out EXPORT_DIR, and use --model EXPORT_DIR/h",
    "empty": "holds no model: expected a version of a model, such as --model EXPORT_DIR/hqgnn/1",
    "file": "is a file: expected a version",
    "none": "doesn't exist: expected a version",
}


@pytest.mark.parametrize(("name", "message"), VERSIONS.items())
def test_where_a_version_is_expected(folder, name, message):
    said = not_a_version(folder / name, "--model ")
    assert (said is None) == (message is None)
    assert said is None or said.startswith(f"{folder / name} {message.format(folder)}")


EXPORTS = {
    "export": None,
    "export/hqgnn": "is one model: use {}/export, which holds the models",
    "export/hqgnn/9": "is one version of a model: use {}/export, which holds the models",
    "run": "is a training run: export it first, tf-hqgnn export {}/run --out EXPORT_DIR",
    "none": "doesn't exist: expected the EXPORT_DIR that `tf-hqgnn export` or a pipeline wrote",
}


@pytest.mark.parametrize(("name", "message"), EXPORTS.items())
def test_where_an_export_is_expected(folder, name, message):
    said = not_an_export(folder / name)
    assert said == (None if message is None else f"{folder / name} {message.format(folder)}")


RUNS = {
    "export": "holds an exported model, not a training run: expected a RUN_DIR",
    "export/hqgnn": "holds an exported model",
    "export/hqgnn/9": "holds an exported model",
    "study": "is a tuning study, not a training run: train with its settings, {}/study/best.yaml",
    "none": "is not the directory of a finished run (no metrics.json): expected a RUN_DIR",
}


@pytest.mark.parametrize(("name", "message"), RUNS.items())
def test_where_a_run_is_expected(folder, name, message):
    assert not_a_run(folder / name).startswith(f"{folder / name} {message.format(folder)}")
