"""The notebooks run as they are committed, and become pages with pictures."""

import importlib.util
import re
import subprocess

import pytest
import yaml
from pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "execute")


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_notebook_is_executed_and_has_its_place_in_the_site(execute):
    assert sorted(execute.NAMES) == NAMES
    assert len(NAMES) == 5
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "hooks: [docs/notebooks/execute.py]" in settings
    for name in NAMES:
        assert f": notebooks/{name}.md\n" in settings


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_a_pair_of_jupytext_and_begins_with_what_it_is_about(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    head = re.match(r"# ---\n((?:#.*\n)+?)# ---\n\n# %% \[markdown\]\n# # \S", text)
    jupyter = yaml.safe_load(re.sub(r"^# ?", "", head[1], flags=re.MULTILINE))["jupyter"]
    assert jupyter["jupytext"]["formats"] == "ipynb,py:percent"
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "TF_HQGNN_MOVIELENS" in text
    assert "plt.subplots" in text


@pytest.mark.docs
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, execute):
    done = subprocess.run([PYTHON, FOLDER / "execute.py", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (execute.BUILT / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[svg\]\(([^)]+\.svg)\)", page)
    assert pictures
    for picture in pictures:
        assert (execute.BUILT / picture).read_text(encoding="utf-8").startswith("<?xml")
    # Nor what an object without a text of its own prints.
    assert not re.search("Traceback|Warning|INFO:| at 0x", page)
