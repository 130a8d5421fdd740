"""The reference pages of docs/ are those that docs/reference.py writes, and name everything that there is."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tf_hqgnn.config.names import setting_names

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("docs_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "signatures.md"])
def test_a_page_is_what_the_code_says(reference, name):
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "stale: run `.venv/bin/python docs/reference.py`, and commit it"


def test_every_setting_has_a_row_with_a_meaning():
    text = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| (.*) \|$", text, re.MULTILINE))
    assert rows.keys() >= set(setting_names())
    assert [name for name, meaning in rows.items() if not re.search(r"^(\w+: )?.{15,}\.$", meaning)] == []


def test_every_command_and_option_of_the_help_has_a_row():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for command in ("train", "recommend", "pipeline run"):
        done = subprocess.run(
            [sys.executable, "-m", "tf_hqgnn.cli", *command.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        section = text.partition(f"## tf-hqgnn {command}\n")[2].partition("\n## ")[0]
        options = set(re.findall(r"(?<!\S)--[a-z][\w-]*", done.stdout)) - {"--help"}
        assert [option for option in sorted(options) if f"`{option}" not in section] == []
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \|", text, re.MULTILINE)
    assert [name for name, meaning in rows if not meaning.endswith(".")] == []


def test_a_stale_page_is_said(reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["reference.py"])
    assert reference.main() == 0
    (tmp_path / "cli.md").write_text("old", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    assert reference.main() == 1
    assert capsys.readouterr().err == "docs/reference/cli.md is stale: run python docs/reference.py\n"
