"""What README.md shows a notebook user is executed as it stands there."""

import re
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from tf_hqgnn.data.synthetic import generate_log

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README.partition("## Two commands")[0], re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the snippets name; 196, 50 and 172 are in them, as in MovieLens."""
    generated = generate_log(200, 180, 4000, seed=5)
    log = pd.DataFrame({"user_id": generated.user_index + 1, "item_id": generated.item_index + 1})
    log.to_csv(tmp_path / "log.csv", index=False)
    items = pd.DataFrame({"item_id": range(1, 181), "title": [f"Title {one}" for one in range(1, 181)]})
    items.to_csv(tmp_path / "items.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_five_lines_come_before_anything_else():
    assert re.match(r"# tf_hqgnn\n\n```python\n", README)
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 4
    assert "pip install dist/tf_hqgnn-*.whl" in README.partition("\n## ")[0]


def test_the_snippets_run_one_after_the_other(folder):
    assert len(BLOCKS) == 3
    names = {}
    # Fewer epochs than by default, so that the test is short.
    first = BLOCKS[0].replace("Recommender()", 'Recommender(**{"auto.steps": 60})')
    *lines, last = [line for line in first.splitlines() if line]
    exec("\n".join(lines), names)
    table = eval(last, names)
    assert list(table.columns) == ["user_id", "rank", "item_id", "score", "known"]
    assert table["rank"].tolist() == list(range(1, 11))
    assert table["known"].all()
    for block in BLOCKS[1:]:
        exec(textwrap.dedent(block), names)
    assert {path.name for path in folder.iterdir()} == {"log.csv", "items.csv", "run", "serving"}
    assert names["model"].data_report_.kept >= 4000
