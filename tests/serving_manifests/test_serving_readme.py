"""The commands and figures of serving/README.md."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import label
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "serving" / "README.md").read_text()
COMMANDS = re.findall(r"^ *python serving/label\.py (.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)


def test_the_readme_shows_canary_full_and_rollback():
    joined = "\n".join(COMMANDS)
    for part in ("--label canary", "--label stable", "--rollback", "--offline", "--server", "--namespace"):
        assert part in joined


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    flags = label.parse(shlex.split(command))
    assert flags.config.exists()
    assert flags.model in {model.name for model in label.load(flags.config).model_config_list.config}


def test_every_file_is_in_the_table_and_there():
    table = README[: README.index("## Start")]
    named = {name for name in re.findall(r"`([\w.]+(?:/[\w.]*)?)`", table) if "." in name or name.endswith("/")}
    assert {name for name in named if not list((ROOT / "serving").glob(f"**/{name}"))} == set()
    for path in (ROOT / "serving").iterdir():
        listed = path.name in table or path.name.startswith(("label_", "requirements-tools", "README", "__"))
        assert listed or path.suffix in (".previous", ".partial"), path.name


def test_memory_is_items_times_bytes():
    rows = re.findall(
        r"^\| (float32|\d) \| (\d+) \| ([\d.]+) MB \| ([\d.]+ [GM]B) \| ([\d.]+ [GM]B) \|$", README, re.MULTILINE
    )
    assert len(rows) == 5
    for bits, size, million, five, twice in rows:
        # 64 dimensions and a scale: float32 beside float32 rows, float16 beside codes.
        assert int(size) == (64 * 4 + 4 if bits == "float32" else 64 * int(bits) // 8 + 2)
        assert float(million) == int(size)
        for text, count in ((five, 5), (twice, 10)):
            value, unit = text.split()
            assert float(value) * (1000 if unit == "GB" else 1) == pytest.approx(int(size) * count)
