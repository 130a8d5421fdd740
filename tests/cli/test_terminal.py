"""What the commands show of data: as it is, whatever it looks like, on any terminal, and refusals in one line."""

import contextlib
import io
import json
import os
import pickle
import shlex
import subprocess
import sys

import numpy as np
import pytest
from commands import run_fresh

from tf_hqgnn.cli.output import print_answer
from tf_hqgnn.cli.terminal import plain, printable
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.serving.answers import Recommendation
from tf_hqgnn.types import InputError

ODD = ["x[/b]", "[red]y[/red]", "Alarm [rec] (2007)", ":cat:", "[link=file:///]z", "Café", "\\[a]", "[/]", "a b"]
SMOKE = "configs/smoke.yaml"


def shown(function, *arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*arguments)
    return out.getvalue()


@pytest.mark.parametrize("text", ODD)
def test_ids_titles_and_users_are_no_markup(text):
    answer = Recommendation(text, True, np.array([0.5]), (text,))
    output = shown(print_answer, answer, text, 0, {text: f"title {text}"}, False)
    assert output.count(text) == 3
    assert f"title {text}" in output


def test_control_characters_reach_no_terminal():
    bad = "a\x1b[2Jb\nc\x9bd\x00"
    output = shown(print_answer, Recommendation(bad, True, np.array([0.5]), (bad,)), bad, 0, {bad: bad}, False)
    assert "\x1b" not in output
    assert "\x9b" not in output
    assert len(output.splitlines()) == 6
    assert printable("a\r\nb") == "a\ufffd\ufffdb"
    assert plain("[b]x[/b] :cat:").plain == "[b]x[/b] :cat:"


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\u061c"])
def test_titles_turn_no_direction_of_writing(mark):
    bad = f"abc{mark}def"
    output = shown(print_answer, Recommendation(bad, True, np.array([0.5]), (bad,)), bad, 0, {bad: bad}, False)
    assert mark not in output
    assert output.count("abc\ufffddef") == 3


def test_mistakes_are_one_line_whatever_is_in_them():
    assert str(InputError("a\nb\r\x1b[2J\u202e.csv: no such file")) == r"a\nb\r\x1b[2J\u202e.csv: no such file"
    assert str(pickle.loads(pickle.dumps(InputError("a\nb")))) == r"a\nb"
    for path in ("x\n.csv", "x\u2028.csv", "x\x85.csv"):
        with pytest.raises(InputError) as caught:
            read_interactions(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def odd(tmp_path_factory, run_command):
    """A run and an export of a log whose ids and titles are odd."""
    folder = tmp_path_factory.mktemp("odd")
    lines = [f'u[{user}],"{item}"\n' for user in range(40) for n, item in enumerate(ODD * 2) if (user + n) % 3]
    (folder / "log.csv").write_text("user_id,item_id\n" + "".join(lines), encoding="utf-8")
    titles = "".join(f'"{item}","Título {item}"\n' for item in ODD)
    (folder / "items.csv").write_text("item_id,title\n" + titles, encoding="utf-8")
    data = (f"data.path={folder}/log.csv", f"data.items_path={folder}/items.csv", "training.batch_size=16")
    settings = [part for value in data for part in ("--set", value)]
    code, _, err = run_command("train", SMOKE, "--out", folder / "run", *settings, PYTHONIOENCODING="ascii")
    assert code == 0, err
    code, _, err = run_command("export", folder / "run", "--out", folder / "export", PYTHONIOENCODING="ascii")
    assert code == 0, err
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_a_terminal_of_any_encoding(odd, run_command, encoding):
    code, out, err = run_command(
        *("recommend", "--model", odd / "export" / "hqgnn" / "1", "--user", "u[0]", "-k", "3"),
        *("--items", odd / "items.csv"),
        PYTHONIOENCODING=encoding,
    )
    assert (code, err) == (0, b"")
    text = out.decode(encoding)
    title = {"ascii": "T?tulo ", "latin-1": "Título ", "cp437": "Título ", "utf-8": "Título "}[encoding]
    assert text.count(title) == 3
    assert "user u[0]" in text


def test_json_is_the_same_on_every_terminal(odd, run_command):
    outputs = {
        encoding: run_command(
            *("recommend", "--model", odd / "export" / "hqgnn" / "1", "--user", "u[0]", "-k", "9", "--json"),
            *("--items", odd / "items.csv"),
            PYTHONIOENCODING=encoding,
        )[1]
        for encoding in ("ascii", "utf-8")
    }
    assert outputs["ascii"] == outputs["utf-8"]
    items = json.loads(outputs["ascii"])["items"]
    assert {item["title"] for item in items} <= {f"Título {name}" for name in ODD}
    assert items


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_other_commands(odd, run_command, encoding, tmp_path):
    assert run_command("evaluate", odd / "run", PYTHONIOENCODING=encoding)[0] == 0
    (tmp_path / "Café").mkdir()
    out = tmp_path / "Café" / "Alarm [rec].csv"
    code, _, err = run_command(
        *("generate", "--users", 9, "--items", 9, "--interactions", 20, "--out", out), PYTHONIOENCODING=encoding
    )
    assert code == 0
    assert b"Alarm [rec].csv" in err
    code, _, err = run_command("evaluate", tmp_path / "Café [/b]", PYTHONIOENCODING=encoding)
    assert code == 2
    assert "Caf? [/b]" if encoding == "ascii" else "Café [/b]" in err.decode(encoding)
    (tmp_path / "users.csv").write_text("user_id\nu[1]\nCafé[/b]\n", encoding="utf-8")
    code, printed, err = run_command(
        *("batch", "--model", odd / "export" / "hqgnn" / "1", "--users", tmp_path / "users.csv"),
        *("--out", tmp_path / "Café" / "out.parquet", "--reject-unknown"),
        PYTHONIOENCODING=encoding,
    )
    assert (code, printed[:18]) == (0, b"2 users in, 1 answ"), err


MISTAKES = {
    "a command": (["x[/b]"], "No such command 'x[/b]'; see tf-hqgnn --help"),
    "an option": (["recommend", "--k[/b]"], "No such option: --k[/b]"),
    "a number": (["recommend", "-k", "[/b]"], "Invalid value for '-k' / '--k': "),
    "no option": (["train"], "Missing option '--out'; see tf-hqgnn train --help"),
    "a choice": (["evaluate", "--split", "[/b]", "x"], "--split [/b]: expected valid or test"),
    "a nested command": (["pipeline", "[/b]"], "No such command '[/b]'; see tf-hqgnn pipeline --help"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_usage_is_one_line_that_shows_what_was_typed(arguments, message):
    code, out, err = run_fresh(*arguments, PYTHONIOENCODING="ascii")
    assert (code, out) == (2, b"")
    (line,) = err.decode().splitlines()
    assert line.startswith("tf-hqgnn: ")
    assert message in line


def test_help_and_version_end_well():
    assert run_fresh("--help")[0] == run_fresh("train", "--help")[0] == run_fresh("--version")[0] == 0
    code, out, err = run_fresh()
    assert b"Usage" in out + err
    assert code == 2


def in_shell(command, **environment):
    """`(code, standard error)` of a command line of the shell that starts with `tf-hqgnn`."""
    program = f"{shlex.quote(sys.executable)} -m tf_hqgnn.cli"
    done = subprocess.run(
        ["sh", "-c", command.replace("tf-hqgnn", program, 1)],
        capture_output=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        check=False,
    )
    return done.returncode, done.stderr.decode("utf-8", "replace")


@pytest.mark.integration
def test_closed_and_full_standard_output(odd):
    assert in_shell(f"tf-hqgnn evaluate {odd}/run >&-") == (0, "")
    lost = "tf-hqgnn: standard output: no space left on device; the command is done, only what it prints is lost\n"
    for unbuffered in ("", "1"):
        full = in_shell(f"tf-hqgnn evaluate {odd}/run --json >/dev/full", PYTHONUNBUFFERED=unbuffered)
        assert full == (1, lost)


@pytest.mark.integration
def test_ids_are_utf8_in_any_locale(odd):
    plain_c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = f"tf-hqgnn recommend --model {odd}/export/hqgnn/1 --user 'u[1]' --exclude Café --json -k 7"
    done = subprocess.run(
        [sys.executable, "-m", "tf_hqgnn.cli", *shlex.split(command)[1:]],
        capture_output=True,
        env=os.environ | plain_c,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Café" not in [item["item_id"] for item in json.loads(done.stdout)["items"]]
    code, err = in_shell(f"tf-hqgnn recommend --model {odd}/export/hqgnn/1 --user ü1 --json", **plain_c)
    assert (code, "UTF-8" in err) == (0, False), err


def test_an_id_that_is_no_text_is_a_mistake(odd, run_command):
    code, _, err = run_command("recommend", "--model", odd / "export" / "hqgnn" / "1", "--user", os.fsdecode(b"a\xff"))
    assert (code, err) == (2, b"tf-hqgnn: 'a\\udcff' isn't UTF-8 text; expected an id in UTF-8\n")


def test_what_a_training_says_of_ratings_and_weights(run_command, tmp_path):
    rows = [(f"u{n % 20}", f"i{n % 31}", (-1) ** n, 1 + n % 3) for n in range(300)]
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "log.csv").write_text("user_id,item_id,rating,weight\n" + lines)
    code, out, err = run_command(
        "train",
        SMOKE,
        "--out",
        tmp_path / "run",
        "--set",
        f"data.path={tmp_path}/log.csv",
        "--set",
        "training.batch_size=16",
    )
    assert code == 0, err
    lines = err.decode().splitlines()
    assert [line for line in lines if line.startswith("ratings")] == [
        "ratings go from -1 to 1, and every row counts as positive; set data.min_rating to count only higher ones"
    ]
    # Weights count, so there is no word that they don't.
    assert not [line for line in lines if "isn't used" in line or "not used" in line]
    assert json.loads(out)["run_dir"] == str(tmp_path / "run")
