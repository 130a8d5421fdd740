"""What README.md and docs/quick_start.md begin with: pip installs the wheel, and a notebook runs the Python lines."""

import html
import json
import os
import re
import shutil
import subprocess

import pandas as pd
import pytest
from clean import PATIENCE_SECONDS, ROOT, UV, Environment, Stranger, pythons

pytestmark = pytest.mark.install
PYTHONS = pythons()
VERSIONS = sorted(PYTHONS, key=lambda version: int(version[2:]))
# As REAL_DATA of tests/conftest.py, which can't be imported beside this folder's own conftest.py.
LOG = ROOT.parent / "shared" / "data" / "ml-100k" / "interactions.csv"
# Ids of the log that the quick start generates, and what MovieLens has in their place.
IDS = {'"u000010"': "196", '"i00010"': "50", '"i00027"': "172", '"i00151"': "181", '"i00001"': "1"}
EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(code) for code in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
print(json.dumps(notebook))
"""


def lines_of(page, language):
    """The blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_pip_installs_by_the_lines_of_the_pages(place, wheel):
    folder = place / "by pip"
    subprocess.run([UV, "venv", "--quiet", "--seed", "--python", PYTHONS[VERSIONS[-1]], folder], check=True)
    variables = {**os.environ, "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}", "PIP_QUIET": "1"}
    # The copy of the checkout that the wheel was built from stands for the checkout.
    shutil.copytree(wheel.parent / "source", place / "checkout", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for page, packages in (("docs/quick_start.md", {"h11"}), ("README.md", {"h11", "scann", "matplotlib"})):
        code = lines_of(page, "bash")[0]
        assert code.startswith("pip wheel")
        subprocess.run(["bash", "-euc", code], cwd=place / "checkout", env=variables, check=True)
        listed = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "list", "--format", "json"], capture_output=True, check=True
        )
        assert {"tf_hqgnn", "tensorflow", *packages} <= {one["name"] for one in json.loads(listed.stdout)}


@pytest.mark.skipif(not LOG.exists(), reason="the MovieLens log of ../shared isn't here")
@pytest.mark.parametrize("python", dict.fromkeys([VERSIONS[0], VERSIONS[-1]]))
def test_the_quick_start_in_a_notebook(place, wheel, python):
    environment = Environment(place / f"notebook-{python}", PYTHONS[python], wheel).make()
    program = environment.folder / "bin" / "python"
    subprocess.run([UV, "pip", "install", "--quiet", "--python", program, "nbclient", "ipykernel"], check=True)
    folder, home = place / f"notebook-{python}-out", place / f"notebook-{python}-home"
    folder.mkdir()
    home.mkdir()
    stranger = Stranger(environment, folder, home, {"JUPYTER_PREFER_ENV_PATH": "1"})
    (block,) = lines_of("README.md", "python")
    cells = [block.replace('"log.csv"', repr(str(LOG))), "print(model.recommend([196], k=10).to_json())"]
    quick_start = [code for code in lines_of("docs/quick_start.md", "python") if "Client" not in code]
    assert len(quick_start) == 4
    for code in quick_start:
        for name in ("log.csv", "items.csv"):
            file = LOG if name == "log.csv" else LOG.with_name("items.csv")
            code = code.replace(f'"{name}"', repr(str(file)))
        for made, real in IDS.items():
            code = code.replace(made, real)
        cells.append(code.replace('"first"', repr(str(place / f"notebook-{python}-saved"))))
    done = subprocess.run(
        [program, "-c", EXECUTE, json.dumps(cells)],
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        **stranger.options(),
    )
    assert done.returncode == 0, done.stderr
    first, second, quick, questions, *_ = json.loads(done.stdout)["cells"]
    (shown,) = [output for output in first["outputs"] if output["output_type"] == "execute_result"]
    assert "<table" in shown["data"]["text/html"]
    said = "".join(output["text"] for output in first["outputs"] if output["output_type"] == "stream")
    # The balance of the log and the progress, and nothing of the libraries.
    assert said.startswith("100,000 rows read = 100,000 kept"), said
    assert "valid ndcg@20  epochs  what was tried" in said, said
    assert re.search(r"refit: \d+ epochs on 100000 interactions", said), said
    assert not re.search("warning|cuda|tensorflow", said, re.IGNORECASE), said
    table = json.loads(second["outputs"][0]["text"])
    recommended = list(table["item_id"].values())
    log = pd.read_csv(LOG)
    assert len(recommended) == 10
    taken = set(log["item_id"][log["user_id"] == 196])
    assert set(recommended) <= set(log["item_id"]) - taken
    # Long titles are shown in part.
    shown = [html.unescape(cell["outputs"][-1]["data"]["text/html"]) for cell in (quick, questions)]
    titles = pd.read_csv(LOG.with_name("items.csv")).set_index("item_id")["title"]
    assert sum(title in shown[0] for title in titles.drop(taken, errors="ignore")) >= 3
    assert sum(title in shown[1] for title in titles[sorted(taken)]) >= 2
    # No file is left where it ran.
    assert not list(folder.iterdir())
