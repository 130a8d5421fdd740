"""Every option that names a file or a folder, with a place of an object store: refused in a line, before any work."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer.main
from test_cli import run

from tf_hqgnn.cli.commands import app

pytestmark = pytest.mark.integration

# What the help calls them, and the options whose own code says what stores they take (tests/beam/test_object_stores.py,
# tests/pipelines/test_run_kubeflow_options.py).
KINDS = re.compile(r"FILE|DIR|FOLDER|LOG|SAVED_MODEL|PEM|\.yaml|\.csv|\.parquet")
TAKE_STORES = {
    ("train", "--recommendations"),
    ("batch", "--model"),
    ("batch", "--users"),
    ("batch", "--out"),
    ("pipeline compile", "--model-config-file"),
}


def commands(group=None, words=()):
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


def options():
    for words, command in commands():
        hints = get_type_hints(command.callback)
        for parameter in command.params:
            hint = hints.get(parameter.name)
            is_path = Path in (hint, *get_args(hint))
            name = parameter.opts[0] if parameter.param_type_name == "option" else f"{parameter.metavar}"
            if (is_path or KINDS.search(parameter.metavar or "")) and (" ".join(words), name) not in TAKE_STORES:
                yield pytest.param(words, command, parameter, name, id=f"{' '.join(words)} {name}")


def given(parameter, value):
    return [parameter.opts[0], value] if parameter.param_type_name == "option" else [value]


@pytest.mark.parametrize(("words", "command", "parameter", "name"), [*options()])
def test_a_place_of_a_store_is_refused(words, command, parameter, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [*words]
    for other in command.params:
        if other is parameter:
            arguments += given(other, "s3://bucket/some/thing")
        elif other.required:
            arguments += given(other, "1")
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"tf-hqgnn: {name} s3://bucket/some/thing: expected a path of this machine")
    assert done.stderr.count("\n") == 1
    # Not even a folder by the name of `s3:`.
    assert list(Path().iterdir()) == []


def test_there_are_such_options_and_ids_are_none_of_them():
    found = {parameter.id for parameter in options()}
    assert {"train --out", "export RUN_DIR", "serve [EXPORT_DIR]", "pipeline run --data", "generate --out"} <= found
    assert not any(id.endswith(("--user", "--item", "--exclude-category")) for id in found)


@pytest.mark.parametrize("setting", ["path", "items_path", "users_path", "quarantine_path"])
def test_a_setting_is_refused_before_the_log_is_read(setting, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("no log")
    settings = {"path": log, setting: "gs://bucket/file.csv"}
    overrides = [word for name, value in settings.items() for word in ("--set", f"data.{name}={value}")]
    done = run("train", "default", "--out", tmp_path / "run", *overrides)
    assert done.returncode == 2
    assert done.stderr.startswith(f"tf-hqgnn: data.{setting} gs://bucket/file.csv: expected a path of this machine")
    assert ("train --runner" in done.stderr) == (setting == "path")
    assert not (tmp_path / "run").exists()
