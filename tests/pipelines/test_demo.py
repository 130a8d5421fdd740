"""The demo as a stranger runs it, on a small log: what it prints, and that nothing of it stays."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import environment_with

from pipelines.demo import Server
from tf_hqgnn.export.contents import read_contents
from tf_hqgnn.export.layout import newest_version
from tf_hqgnn.serving.client import Client, LocalModel

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
DEMO = ("-m", "pipelines.demo", "--config", "configs/smoke.yaml")


def command_lines():
    """Of all processes that this one may see."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended since
    return lines


def start(out, *options):
    command = [sys.executable, *DEMO, "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, log_path, container_python):
    """`(out, what it printed)`, of a Python that had imported TFX; the tests below start it as a stranger does."""
    out = tmp_path_factory.mktemp("demo")
    # Features of everybody, and of a user and an item that are in no log.
    log = pd.read_parquet(log_path) if log_path.suffix == ".parquet" else pd.read_csv(log_path)
    items, users = ([*sorted(set(log[f"{side}_id"])), "unheard of"] for side in ("item", "user"))
    shelves = pd.DataFrame({"item_id": items, "shelf": [f"s{n % 5}" for n in range(len(items))]})
    ages = pd.DataFrame({"user_id": users, "age": [20 + n % 40 for n in range(len(users))]})
    shelves.to_csv(out / "shelves.csv", index=False)
    ages.to_csv(out / "users.csv", index=False)
    about = f"{log_path.with_name('items.csv')},{out}/shelves.csv"
    command = ["python", *DEMO, "--out", out, "--data", log_path, "--items", about, "--users", out / "users.csv"]
    printed = tmp_path_factory.mktemp("printed") / "log"
    code = container_python.run(command, environment_with(), ROOT, printed)
    assert code == 0, printed.read_text()
    return out, printed.read_text()


def test_it_shows_a_known_user_an_unknown_one_and_similar_items(finished):
    out, output = finished
    assert "popularity" in output
    assert "times the NDCG@20 of popularity" in output
    for heading in (
        "hqgnn (exact) recommends",
        # ScaNN's index begins at 20,000 items.
        "hqgnn_scann (exact) recommends",
        "known_user = False",
        "similar to",
        "tf-hqgnn explore",
    ):
        assert heading in output
    # The page that this command serves shows titles.
    assert read_contents(newest_version(out / "serving", "hqgnn")).item_titles is not None
    assert "Traceback" not in output
    assert not [line for line in command_lines() if str(out) in line]


def test_it_explains_its_first_recommendation_by_titles(finished):
    out, output = finished
    why = re.search(r"\bwhy (.+?), of the score (-?[\d.]+): (.+? all else [+-]\d+\.\d{3})", " ".join(output.split()))
    shares = re.findall(r"(.+?) ([+-]\d+\.\d{3})(?:, )?", why[3])
    assert sum(float(share) for _, share in shares) == pytest.approx(float(why[2]), abs=0.003)
    titles = {*read_contents(newest_version(out / "serving", "hqgnn")).item_titles}
    assert {why[1], *(name for name, _ in shares[:-1])} <= titles
    assert len(shares) == 4


def test_it_says_which_features_it_has_used_and_knows_who_has_nothing_else(finished):
    out, output = finished
    assert "features of users that new ones are known by: age (number, 20 to 59)" in output
    assert "features of items that new ones are known by: shelf (category, 5 values)" in output
    assert "a new user with age=20" in output
    for model in ("hqgnn", "hqgnn_scann"):
        with LocalModel(newest_version(out / "serving", model)) as served:
            (answer,) = served.recommend(["unheard of"], k=3)
            (similar,) = served.similar_items(["unheard of"], k=3)
            (asked,) = served.recommend_for_features([{"age": "33"}], k=3)
        assert answer.known_user
        assert similar.known_item
        assert asked.known_user


def test_the_server_goes_with_the_demo_when_it_is_interrupted(finished):
    out, _ = finished

    def interrupted():
        with Server(out / "serving") as address, Client(address) as client:
            assert client.recommend(["nobody"], k=3)[0].known_user is False
            assert [line for line in command_lines() if str(out) in line]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [line for line in command_lines() if str(out) in line]


def test_ctrl_c_leaves_no_process(tmp_path, log_path):
    process = start(tmp_path, "--data", str(log_path))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[1/"):
            break
    os.kill(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not [line for line in command_lines() if str(tmp_path) in line]


def test_a_missing_log_is_one_line(tmp_path):
    process = start(tmp_path, "--data", "absent.csv")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert len(output.strip().splitlines()) == 1
    assert "absent.csv" in output
