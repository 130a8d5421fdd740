"""What a recommender prints, which files it leaves, and what Ctrl-C does."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from agreement import assert_same

import tf_hqgnn
from tf_hqgnn import Recommender


def python(code, cwd, **options):
    """Runs code in a new Python, in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tf_hqgnn.__file__).parents[1]), "TMPDIR": str(cwd / "tmp")}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    (cwd / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_silence_and_no_files(log, tmp_path):
    log.to_csv(tmp_path / "log.csv", index=False)
    code = """
        import pandas as pd
        from tf_hqgnn import Recommender
        settings = {"training.max_epochs": 1, "model.embedding_dim": 16}
        model = Recommender("default", verbose=0, **settings).fit(pd.read_csv("log.csv"))
        model.recommend([100])
    """
    process = python(code, tmp_path)
    assert process.communicate() == ("", "")
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "tmp"]
    assert not [path.name for path in (tmp_path / "tmp").iterdir() if "tf_hqgnn" in path.name]


def test_verbose_shows_the_balance_and_the_progress(log, capfd, training):
    capfd.readouterr()
    Recommender("default", verbose=1, **training).fit(log)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("3,000 rows read = 3,000 kept + 0 repeats of a (user, item) pair + 0 filtered + 0 bad\n")
    assert "epoch 2/2" in err
    Recommender("default", verbose=0, **training).fit(log)
    assert capfd.readouterr() == ("", "")


def test_run_dir_is_where_it_is_told(log, tmp_path, plain, settings):
    Recommender("spectral", verbose=0, **settings).fit(log, run_dir=tmp_path / "run")
    assert_same(Recommender.load(tmp_path / "run", verbose=0), plain)


def test_interrupted_it_is_as_it_was_before(log, tmp_path):
    log.to_csv(tmp_path / "log.csv", index=False)
    code = """
        import sys
        import pandas as pd
        from tf_hqgnn import NotFittedError, Recommender
        log = pd.read_csv("log.csv")
        long = {"training.max_epochs": 2000, "training.evaluate_every": 2000, "training.jit_compile": False}
        long["model.embedding_dim"] = 8
        def interrupted(model):
            try:
                model.fit(log)
            except KeyboardInterrupt:
                return
            sys.exit("not interrupted")
        model = Recommender("default", verbose=1, **long)
        interrupted(model)
        try:
            model.recommend([100])
        except NotFittedError:
            print("not fitted", flush=True)
        model = Recommender("spectral", verbose=0, **{"model.embedding_dim": 8}).fit(log)
        before = model.recommend("all")
        interrupted(model.set_params(config="default", verbose=1, **long))
        assert model.recommend("all").equals(before)
        print("usable", flush=True)
    """
    process = python(code, tmp_path)
    for expected in ("not fitted\n", "usable\n"):
        # A twentieth of the epochs is over, the others would take many seconds.
        while not (line := process.stderr.readline()).startswith("epoch 100/2000"):
            assert line, "it ended before it was interrupted"
        process.send_signal(signal.SIGINT)
        told = process.stdout.readline()
        assert told == expected, process.stderr.read()
    process.communicate()
    assert process.returncode == 0
    assert not [path.name for path in (tmp_path / "tmp").iterdir() if "tf_hqgnn" in path.name]


def test_importing_the_package_loads_no_tensorflow():
    code = "import sys, tf_hqgnn; tf_hqgnn.Recommender; print({'tensorflow', 'pandas', 'narwhals'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert {"Recommender", "Config", "NotFittedError", "InputError"} <= set(dir(tf_hqgnn))
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        tf_hqgnn.Recomender  # noqa: B018
