"""The README's first lines in a notebook's kernel, from an empty folder, with the wheel alone."""

import json
import re
import subprocess

import pandas as pd
import pytest
from clean import PATIENCE_SECONDS, ROOT, UV, Environment, Stranger, pythons

pytestmark = pytest.mark.install
PYTHONS = pythons()
VERSIONS = sorted(PYTHONS, key=lambda version: int(version[2:]))
# As REAL_DATA of tests/conftest.py, which can't be imported beside this folder's own conftest.py.
LOG = ROOT.parent / "shared" / "data" / "ml-100k" / "interactions.csv"
EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(code) for code in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
print(json.dumps(notebook))
"""


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
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    cells = [block.replace('"log.csv"', repr(str(LOG))), "print(model.recommend([196], k=10).to_json())"]
    done = subprocess.run(
        [program, "-c", EXECUTE, json.dumps(cells)],
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        **stranger.options(),
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["cells"]
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
    assert set(recommended) <= set(log["item_id"]) - set(log["item_id"][log["user_id"] == 196])
    # No file is left where it ran.
    assert not list(folder.iterdir())
