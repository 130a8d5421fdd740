"""Presets are found by name, wherever the package lies."""

from pathlib import Path

import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config, preset_names
from tf_hqgnn.types import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_every_preset_is_found_by_its_name():
    assert preset_names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    for name in preset_names():
        assert Config.load(find_config(name)) == Config.load(ROOT / "configs" / f"{name}.yaml")


def test_a_file_comes_first_and_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").write_text("seed: 1")
    assert Config.load(find_config("default")).seed == 1
    for path in ("configs/none.yaml", "none.yaml", "./default"):
        assert find_config(path) == Path(path)


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"^config defualt: no such file, and no preset .*; do you mean default\?"):
        find_config("defualt")
    with pytest.raises(InputError, match=r"no preset of that name \(presets: auto, default, gowalla, "):
        find_config("xyz")
