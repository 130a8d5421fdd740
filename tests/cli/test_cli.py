"""The command line as a user meets it: exit codes, one-line errors, JSON on standard output and nothing else."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

import pytest

from tf_hqgnn.cli.commands import main
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.export.layout import read_metadata
from tf_hqgnn.serving.server import Server


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


class Terminal(io.StringIO):
    """What a command takes for a terminal."""

    def isatty(self):
        return True


def run(*arguments, out=None):
    """The command in this process: as the console script runs it, without importing TensorFlow anew."""
    out, err = io.StringIO() if out is None else out, io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["tf-hqgnn", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Result(ended.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, log_path):
    """A trained and exported run, made by the command line itself."""
    folder = tmp_path_factory.mktemp("cli")
    items = f"data.items_path={log_path.with_name('items.csv')}"
    paths = ("--set", f"data.path={log_path}", "--set", items)
    trained = run("train", "configs/smoke.yaml", "--out", folder / "run", *paths)
    assert trained.returncode == 0, trained.stderr
    (folder / "train.json").write_text(trained.stdout)
    exported = run("export", folder / "run", "--out", folder / "export")
    assert exported.returncode == 0, exported.stderr
    return folder


def test_train_ends_with_one_json_object(folder):
    result = json.loads((folder / "train.json").read_text())
    assert result["run_dir"] == str(folder / "run")
    assert result["epochs"] == 3
    assert result["seconds"] > 0
    assert 0 < result["valid"]["ndcg@20"] < 1


def test_train_prints_a_table_on_a_terminal_and_json_if_asked(tmp_path, log_path):
    arguments = ("train", "configs/smoke.yaml", "--set", f"data.path={log_path}", "--set", "training.max_epochs=1")
    shown = run(*arguments, "--out", tmp_path / "table", out=Terminal()).stdout
    result = json.loads((tmp_path / "table" / "metrics.json").read_text())
    (line,) = [line for line in shown.splitlines() if "ndcg@20" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    values = result["valid"]["ndcg@20"], result["popularity"]["ndcg@20"]
    assert cells == ["ndcg@20", *(f"{value:.4f}" for value in values)]
    assert shown.endswith(f"run: {tmp_path / 'table'}\n")
    asked = run(*arguments, "--out", tmp_path / "json", "--json", out=Terminal()).stdout
    assert json.loads(asked)["valid"] == result["valid"]


def test_two_runs_side_by_side(folder, coded):
    pair = folder / "run", coded[0]
    found = json.loads(run("compare", *pair, "--json").stdout)
    assert found["runs"] == [str(path) for path in pair]
    assert found["settings"] == {"quantization.bits": [None, 2], "quantization.distillation.max_epochs": [None, 2]}
    reports = [json.loads((path / "metrics.json").read_text()) for path in pair]
    ndcg, seconds = ([report["valid"]["ndcg@20"] for report in reports], [report["seconds"] for report in reports])
    assert (found["metrics"]["ndcg@20"], found["seconds"]) == (ndcg, seconds)
    # 16 dimensions: 64 bytes, or 16 times 2 or 8 bits and a scale of 2 bytes.
    assert (found["item_bytes"], found["user_bytes"], found["same_data"]) == ([64, 6], [64, 18], True)
    plain = run("compare", *pair)
    assert [cell.strip() for cell in plain.stdout.splitlines()[4].strip("│ ").split("│")] == [
        "quantization.bits", "null", "2",
    ]  # fmt: skip
    ratio = f"{ndcg[1] / ndcg[0]:.1%}"
    (line,) = [line for line in plain.stdout.splitlines() if "ndcg@20" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")][1:] == [*(f"{value:.4f}" for value in ndcg), ratio]
    assert "can't be compared" not in plain.stdout


def test_runs_on_other_splits_are_said_to_be_no_match(folder, tmp_path, log_path):
    other = tmp_path / "other"
    settings = ("--set", f"data.path={log_path}", "--set", "seed=9", "--set", "training.max_epochs=0")
    assert run("train", "configs/smoke.yaml", "--out", other, *settings).returncode == 0
    assert "their metrics can't be compared" in run("compare", folder / "run", other).stdout
    missing = run("compare", folder / "run", tmp_path / "none")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


def test_evaluate_prints_json_and_a_table(folder):
    plain = run("evaluate", folder / "run")
    assert "popularity" in plain.stdout
    result = json.loads(run("evaluate", folder / "run", "--split", "valid", "--k", "20", "--json").stdout)
    assert set(result) == {"split", "num_users", "metrics"}
    assert result["metrics"]["ndcg@20"] == json.loads((folder / "train.json").read_text())["valid"]["ndcg@20"]


@pytest.fixture(scope="module")
def coded(tmp_path_factory, log_path):
    """A run with 2-bit items and 8-bit users, and what its training printed."""
    run_dir = tmp_path_factory.mktemp("cli") / "coded"
    bits = ("quantization.bits=2", "quantization.distillation.max_epochs=2", f"data.path={log_path}")
    overrides = [part for value in bits for part in ("--set", value)]
    trained = run("train", "configs/smoke.yaml", "--out", run_dir, *overrides)
    assert trained.returncode == 0, trained.stderr
    return run_dir, trained


def test_training_says_how_the_codes_come_along(coded):
    _, trained = coded
    assert "codes: epoch 2/2" in trained.stderr
    result = json.loads(trained.stdout)
    assert 0 < result["valid"]["ndcg@20"] != result["full_precision"]["ndcg@20"]


def test_evaluate_prints_full_precision_coded_and_their_ratio(coded):
    run_dir, trained = coded
    result = json.loads(run("evaluate", run_dir, "--split", "valid", "--k", "20", "--json").stdout)
    assert set(result) == {"split", "num_users", "metrics", "full_precision"}
    assert result["metrics"]["ndcg@20"] == json.loads(trained.stdout)["valid"]["ndcg@20"]
    plain = run("evaluate", run_dir, "--split", "valid", "--k", "20").stdout
    (line,) = [line for line in plain.splitlines() if "ndcg@20" in line]
    coded_value, full = result["metrics"]["ndcg@20"], result["full_precision"]["ndcg@20"]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells[:4] == ["ndcg@20", f"{full:.4f}", f"{coded_value:.4f}", f"{coded_value / full:.1%}"]
    assert "items: 400 rows of 16 x 2 bits, 6 bytes each" in plain
    assert "users: 600 rows of 16 x 8 bits, 18 bytes each" in plain


def test_export_says_of_each_model_what_its_metadata_says(folder, tmp_path):
    """A small catalogue's index is exact; one of leaves, of which a few are searched, isn't."""
    exported = run("export", folder / "run", "--out", tmp_path / "export")
    assert exported.stdout == f"version 1 in {tmp_path / 'export'}: hqgnn (exact), hqgnn_scann (exact)\n"
    shutil.copytree(folder / "run", tmp_path / "run")
    settings = (tmp_path / "run" / "config.yaml").read_text()
    leaves = settings.replace("index: auto", "index: scann").replace("num_leaves: null", "num_leaves: 8")
    leaves = leaves.replace("num_leaves_to_search: null", "num_leaves_to_search: 2")
    (tmp_path / "run" / "config.yaml").write_text(leaves)
    exported = run("export", tmp_path / "run", "--out", tmp_path / "export")
    assert exported.stdout.endswith(": hqgnn (exact), hqgnn_scann (approximate)\n"), exported.stderr
    for version, exact in ((1, True), (2, False)):
        assert read_metadata(tmp_path / "export" / "hqgnn_scann" / str(version))["exact"] == exact


def test_export_counts_versions_up(folder):
    assert {path.name for path in (folder / "export").iterdir() if path.is_dir()} == {"hqgnn", "hqgnn_scann"}
    again = run("export", folder / "run", "--out", folder / "export", "--version", "1")
    assert again.returncode == 2
    assert len(again.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("model", ["hqgnn", "hqgnn_scann"])
def test_recommend_from_a_saved_model(folder, log_path, model):
    dataset = SplitDataset.load(folder / "run" / "data")
    user = dataset.user_ids[0]
    seen = set(dataset.item_ids[dataset.train.item_index[dataset.train.user_index == 0]])
    saved = folder / "export" / model / "1"
    answer = json.loads(run("recommend", "--model", saved, "--user", user, "-k", "5", "--json").stdout)
    items = [row["item_id"] for row in answer["items"]]
    assert (answer["user_id"], answer["known_user"], len(items)) == (user, True, 5)
    assert not seen & set(items)
    titled = run(
        "recommend", "--model", saved, "--user", user, "-k", "5", "--exclude", items[0], "--json",
        "--items", log_path.with_name("items.csv"),
    )  # fmt: skip
    rows = json.loads(titled.stdout)["items"]
    assert items[0] not in [row["item_id"] for row in rows]
    assert all(row["title"] for row in rows)


def test_what_the_model_does_not_know_is_said(folder):
    """By a model in this process, which knows the names that may be meant, and by a server, which doesn't."""
    saved, dataset = folder / "export" / "hqgnn" / "1", SplitDataset.load(folder / "run" / "data")
    category, item = str(dataset.categories[0]), str(dataset.item_ids[0])
    wrong = ("--category", category.upper() + "x", "--history", item + "x", "--history", item, "--exclude", "@")
    local = run("recommend", "--model", saved, *wrong, "--json")
    assert json.loads(local.stdout)["items"] == []
    lines = local.stderr.splitlines()
    assert lines[0] == f"tf-hqgnn: unknown category {category.upper() + 'x'!r}; did you mean {category!r}?"
    assert lines[1].startswith(
        f"tf-hqgnn: unknown item {item + 'x'!r} in --history: it counts for nothing; did you mean"
    )
    assert lines[2:] == ["tf-hqgnn: unknown item '@' in --exclude: there is nothing to exclude"]
    right = run("recommend", "--model", saved, "--category", category, "--history", item, "--json")
    assert (json.loads(right.stdout)["items"] != [], right.stderr) == (True, "")
    with Server(folder / "export", grpc_port=0, rest_port=None) as server:
        there = run("recommend", "--server", f"127.0.0.1:{server.grpc_port}", *wrong, "--json")
    assert there.stdout == local.stdout
    assert there.stderr.splitlines() == [
        f"tf-hqgnn: there is nothing to recommend: perhaps the model has no category {category.upper() + 'x'!r}",
        f"tf-hqgnn: unknown item {item + 'x'!r} in --history: it counts for nothing",
        lines[2],
    ]


def test_recommend_to_an_unknown_user(folder):
    table = run("recommend", "--model", folder / "export" / "hqgnn" / "1", "--user", "nobody", "-k", "3")
    assert "unknown: popular items" in table.stdout


def test_questions_about_named_users_and_items(folder):
    model = folder / "export" / "hqgnn" / "1"
    dataset = SplitDataset.load(folder / "run" / "data")
    user = dataset.user_ids[0]

    def ask(*arguments):
        done = run(*arguments, "--model", model, "--user", user, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    best = [(row["item_id"], row["score"]) for row in ask("recommend", "-k", "3")["items"]]
    names = [item for item, _ in best]
    scored = ask("score", *(word for name in [*names, "nothing"] for word in ("--item", name)))
    assert (scored["user_id"], scored["known_user"]) == (user, True)
    assert [row["item_id"] for row in scored["items"]] == [*names, "nothing"]
    assert [row["known_item"] for row in scored["items"]] == [True] * 3 + [False]
    assert [row["score"] for row in scored["items"]] == pytest.approx([*(score for _, score in best), 0], rel=1e-5)
    candidates = [word for name in names[::-1] for word in ("--candidate", name)]
    assert [row["item_id"] for row in ask("recommend", *candidates)["items"]] == names
    taken = dataset.item_ids[dataset.train.item_index[dataset.train.user_index == 0][0]]
    assert ask("recommend", "--candidate", taken)["items"] == []
    seen = ask("recommend", "--candidate", taken, "--allow-seen")["items"]
    assert [row["item_id"] for row in seen] == [taken]
    of_item = dict(zip(dataset.item_ids, dataset.categories))
    one, other = sorted({*dataset.categories} - {""})[:2]
    both = ask("recommend", "-k", "30", "--category", one, "--category", other, "--diversity", "0.5")["items"]
    assert {of_item[row["item_id"]] for row in both} == {one, other}
    rest = ask("recommend", "-k", "30", "--exclude-category", one, "--popularity", "-1", "--exclude", names[0])["items"]
    assert len(rest) == 30
    assert not {one} & {of_item[row["item_id"]] for row in rest}
    assert names[0] not in {row["item_id"] for row in rest}
    assert names[0] not in [row["item_id"] for row in ask("recommend", "--history", names[0], "-k", "5")["items"]]
    why = ask("explain", "--item", names[0], "-k", "1000")
    assert {row["item_id"] for row in why["history"]} >= {taken}
    assert why["score"] == pytest.approx(best[0][1], rel=1e-5)
    assert sum(row["share"] for row in why["history"]) + why["rest"] == pytest.approx(why["score"], abs=1e-4)
    nearest = ask("similar-users", "-k", "2")
    assert (nearest["known_user"], len(nearest["users"])) == (True, 2)
    assert user not in [row["user_id"] for row in nearest["users"]]
    assert 1 >= nearest["users"][0]["score"] >= nearest["users"][1]["score"]
    for command in (("score", "--item", "nothing"), ("similar-users",), ("explain", "--item", names[0])):
        assert "(unknown" in run(*command, "--model", model, "--user", "nobody").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "absent.yaml", "--out", "x"], "config absent.yaml: No such file"),
        (["train", "configs/smoke.yaml", "--out", "x"], "data.path"),
        (["train", "configs/smoke.yaml", "--out", "x", "--set", "data.path=absent.csv"], "absent.csv"),
        (["train", "configs/smoke.yaml", "--out", "x", "--set", "model.dim=3"], "unknown setting model.dim"),
        (["tune", "configs/smoke.yaml", "--out", "x"], "data.path"),
        (["tune", "configs/smoke.yaml", "--out", "tests"], "tests exists already and holds no study"),
        (
            ["tune", "configs/smoke.yaml", "--out", "x", "--set", "tune.ranges={loss.temp: {low: 1, high: 2}}"],
            "tune.ranges.loss.temp: unknown setting loss.temp",
        ),
        (["evaluate", "absent"], "absent is not the directory of a finished run"),
        (["evaluate", "absent", "--split", "train"], "--split train: expected valid or test"),
        (["evaluate", "absent", "--k", "a"], "--k a: expected whole numbers"),
        (["evaluate", "absent", "--k", "0,5"], "--k 0,5: every cut-off must be at least 1"),
        (["recommend", "--user", "u"], "pass exactly one of --server HOST:PORT or --model SAVED_MODEL"),
        (["recommend", "--user", "u", "--model", "absent"], "absent"),
        (["recommend", "--model", "absent"], "pass --user ID, or --history ID once for each item that was taken"),
        (["recommend", "--user", "u", "--feature", "a=b", "--model", "absent"], "pass --user ID, or"),
        (
            ["recommend", "--candidate", "i", "--history", "i", "--model", "absent"],
            "--candidate, --exclude-category, --allow-seen, --diversity, --popularity and a second --category go with",
        ),
        (["recommend", "--history", "i", "--diversity", "0.5", "--model", "absent"], "leave out --history and --featu"),
        (["recommend", "--feature", "a=b", "--category", "a", "--category", "b", "--model", "m"], "leave out --hist"),
        (["score", "--user", "u", "--item", "i"], "pass exactly one of --server HOST:PORT or --model SAVED_MODEL"),
        (["similar-users", "--user", "u", "--model", "absent"], "absent"),
        (["serve", "absent"], "absent"),
        (["generate", "--out", "x.txt"], "x.txt"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert result.stdout == ""


def test_tune_prints_json_then_goes_on_and_prints_what_to_change(log_path, tmp_path):
    overrides = (f"data.path={log_path}", "training.max_epochs=1", "propagation.search=false", "loss.temperature=1")
    settings = [part for value in overrides for part in ("--set", value)]
    command = ("tune", "configs/smoke.yaml", "--out", tmp_path / "study", *settings)
    first = run(*command, "--trials", 1, "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    start = result["start"]["ndcg@20"]
    assert result == {
        "best": str(tmp_path / "study" / "best.yaml"),
        "trial": 0,
        "valid": {"ndcg@20": start},
        "start": {"ndcg@20": start},
        "settings": {},
        "trials": 1,
        "failed": 0,
    }
    assert first.stderr.splitlines()[-1].startswith(f"trial 0  ndcg@20 {start:.4f}  best {start:.4f} (trial 0)")
    assert run(*command).returncode == 2
    second = run(*command, "--trials", 2, "--resume")
    lines = second.stdout.splitlines()
    assert lines[0].startswith("trial ")
    assert lines[0].endswith(f"(start: {start:.4f})")
    assert lines[-1] == result["best"]
    head = (tmp_path / "study" / "best.yaml").read_text().splitlines()[0]
    assert head.startswith("# tf-hqgnn tune configs/smoke.yaml --out ")
    assert head.endswith("--trials 2 --resume")


def test_ctrl_c_says_how_to_go_on(log_path, tmp_path):
    with mock.patch("tf_hqgnn.data.loading.load_dataset", side_effect=KeyboardInterrupt):
        result = run("train", "configs/smoke.yaml", "--out", tmp_path / "run", "--set", f"data.path={log_path}")
    assert result.returncode == 130
    assert result.stderr == "tf-hqgnn: interrupted; a training goes on with --resume\n"


def test_a_server_that_is_not_there_is_exit_code_1():
    result = run("recommend", "--user", "u", "--server", "127.0.0.1:1")
    assert result.returncode == 1
    assert "nothing answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_usage_and_the_version():
    assert run("train").returncode == 2
    assert run("--version").stdout.count(".") == 2


def test_generate_is_deterministic(tmp_path):
    for name in ("a.csv", "b.csv"):
        size = ["--users", "50", "--items", "40", "--interactions", "500"]
        assert run("generate", *size, "--seed", "3", "--out", tmp_path / name).returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_installed_command_as_a_process():
    command = [sys.executable, "-m", "tf_hqgnn.cli", "evaluate", "absent", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "tf-hqgnn: absent is not the directory" in result.stderr
