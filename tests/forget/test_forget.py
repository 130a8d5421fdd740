"""Forgetting: no byte of a user is left where it says so, everybody else's answers stay, and a killed call goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shop import shop_config, write_shop

from tf_hqgnn import Recommender
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.export.layout import MODEL_NAMES, version_path
from tf_hqgnn.export.of_runs import export_run
from tf_hqgnn.export.versions import versions
from tf_hqgnn.forget.forget import forget
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.serving.client import LocalModel
from tf_hqgnn.tfx.model_store import read_pointer, write_pointer
from tf_hqgnn.training.run_folder import run_lock
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

CODES = ("quantization.bits=4", "quantization.user_bits=4", "quantization.method=post_training")
GONE, STAYS = "somebody-to-forget", "u000007"


class Shop:
    """A run with a refit on all, two versions of an export, and a model store, in a folder that tests copy."""

    def __init__(self, folder):
        log, items, self.buyers = write_shop(folder, num_users=100, num_items=60, num_events=1500)
        end = 2**31 - 100
        lines = log.read_text().splitlines()
        # In the training, the validation and the test split.
        mine = [f"{GONE},i000{item:02d},{time}" for item, time in ((1, 1_577_836_801), (2, end - 1), (3, end))]
        log.write_text("\n".join([lines[0], mine[0], *lines[1:], *mine[1:]]) + "\n")
        config = shop_config(log, items, "training.max_epochs=1", *CODES)
        self.folder = folder / "shop"
        self.folder.mkdir()
        train(load_dataset(config.data, config.seed), config, self.folder / "run")
        model = Recommender.load(self.folder / "run", verbose=0)
        model.add_items(pd.DataFrame({"user_id": [GONE, STAYS], "item_id": ["added", "added"]}))
        shutil.rmtree(self.folder / "run")
        model.save(self.folder / "run")
        run = RunDirectory.load(self.folder / "run")
        export_run(run, self.folder / "export")
        for name in MODEL_NAMES:
            shutil.copytree(self.folder / "export" / name / "1", self.folder / "export" / name / "2")
        judged = export_exact(ServingBundle.judged(run), folder / "judged", config.export, 1)
        store = self.folder / "store"
        TrainedState.from_run(run).save(store / "state-2", judged)
        models = {name: str(version_path(self.folder / "export", name, 2)) for name in MODEL_NAMES}
        write_pointer(store, {"version": 2, "models": models, "state": str(store / "state-2")})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def places(shop, tmp_path):
    """`(export, store, run)`, a copy of each."""
    for path in shop.folder.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    store = tmp_path / "store"
    text = (store / "latest_blessed.json").read_text().replace(str(shop.folder), str(tmp_path))
    (store / "latest_blessed.json").write_text(text)
    return tmp_path / "export", store, tmp_path / "run"


def holders(folder):
    """The files in which the id stands, uncompressed as all of these are but Parquet, which tests read themselves."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            held = GONE.encode() in path.read_bytes()
            if path.suffix == ".parquet":
                table = pd.read_parquet(path)
                held = any(GONE in set(table[name]) for name in table if table[name].dtype == object)
            found += [path.relative_to(folder).as_posix()] if held else []
    return found


def answers(version):
    with LocalModel(version) as model:
        (answer,) = model.recommend([STAYS], k=10)
        (gone,) = model.recommend([GONE], k=10)
    return list(answer.item_ids), np.array(answer.scores), gone


def test_nothing_of_a_user_is_left_and_the_others_get_what_they_got(places):
    export, store, run = places
    assert all(holders(place) for place in places)
    before = {name: answers(version_path(export, name, 2)) for name in ("hqgnn", "hqgnn_scann")}
    old_run = RunDirectory.load(run)
    tables = old_run.tables().users, old_run.served().tables().users
    served, judged = old_run.served(), old_run.evaluate("test", (20,)).metrics.num_users
    record = forget([GONE, "nobody"], export, store, [run], keep=0)
    assert [holders(place) for place in places] == [[], [], []]
    assert {name: versions(export / name) for name in before} == {"hqgnn": [3], "hqgnn_scann": [3]}
    for name, (items, scores, gone) in before.items():
        now, same, unknown = answers(version_path(export, name, 3))
        assert now == items
        np.testing.assert_allclose(same, scores, rtol=1e-6)
        assert (bool(gone.known_user), bool(unknown.known_user)) == (True, False)
    # The run without the user: the rows of all others, and graphs as of a log that never had them.
    rest, kept = RunDirectory.load(run), old_run.dataset.user_ids != GONE
    for new, old, rows in zip((rest, rest.served()), (old_run, served), tables):
        np.testing.assert_array_equal(new.user_embeddings, old.user_embeddings[kept])
        np.testing.assert_array_equal(new.tables().users, rows[kept])
        for one, other in zip(new.coded.dequantize(), (old.coded.users.take(kept), old.coded.items)):
            np.testing.assert_array_equal(one, other.dequantize())
        matrix = old.graph.to_matrix()[np.flatnonzero(kept)]
        assert (new.graph.to_matrix() != matrix).nnz == 0
    assert rest.evaluate("test", (20,)).metrics.num_users == judged - 1
    assert (run / "data.sha256").read_text() == rest.dataset.fingerprint()
    model = Recommender.load(run, verbose=0)
    assert not model.recommend([GONE], k=1)["known"].any()
    assert model.similar_items(["added"], k=1)["known"].all()
    # The next training starts from the rest.
    pointer = read_pointer(store)
    state = TrainedState.load(Path(pointer["state"]))
    assert GONE not in {*state.dataset.user_ids, *state.held_out.dataset.user_ids}
    np.testing.assert_array_equal(state.users, rest.served().tables().users)
    assert pointer["version"] == 3
    assert {Path(path).name for path in pointer["models"].values()} == {"3"}
    assert len(record.touched) == 4
    assert any(line.startswith("the log: delete the users' rows there") for line in record.not_reached)
    assert not any("older version" in line for line in record.not_reached)
    assert record.known == [GONE]
    assert "'nobody': none of the folders knows them; check the ids" in record.not_reached


def test_older_versions_and_past_pipeline_runs_are_named_as_not_reached(places, run_command):
    export, store, _ = places
    (store.parent / "metadata.sqlite").touch()
    done = run_command("forget", "--user", GONE, "--export", export, "--store", store, "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["version"] == 3
    for version in (1, 2):
        for name in ("hqgnn", "hqgnn_scann"):
            assert any(str(version_path(export, name, version)) in line for line in answer["not_reached"])
    assert any(str(store.parent / "pipeline") in line for line in answer["not_reached"])
    # Again: nothing is left to do but what --keep 0 does.
    again = run_command("forget", "--user", GONE, "--export", export, "--keep", 0)
    assert again.out.splitlines()[0] == f"touched: {export}: removed the old versions 1, 2"
    assert versions(export / "hqgnn") == [3]
    assert forget([GONE], export, store).touched == []


class Killed(BaseException):
    """As a process that ends here: nothing of the code goes on after it but what a context manager undoes."""


def test_a_call_that_was_killed_goes_on(places, monkeypatch):
    """At every rename in turn: what is there can be read, and the same call ends as if it had never stopped."""
    _, store, run = places
    # Of an export, test_versions.py kills the writer.
    shutil.rmtree(store / "state-2" / "judged_model")
    whole = RunDirectory.load(run).dataset.num_users
    renames = {name: getattr(Path, name) for name in ("rename", "replace")}
    left = 0

    def dying(name):
        def die(self, target):
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            return renames[name](self, target)

        return die

    for number in range(1, 100):
        left = number
        try:
            with monkeypatch.context() as patched:
                for name in renames:
                    patched.setattr(Path, name, dying(name))
                forget([GONE], store_dir=store, run_dirs=[run])
            break
        except Killed:
            TrainedState.load(Path(read_pointer(store)["state"]))
            RunDirectory.load(run if run.exists() else run.with_name("run.forgetting"))
    assert 4 < number < 100
    assert [holders(place) for place in (store, run)] == [[], []]
    assert RunDirectory.load(run).dataset.num_users == whole - 1
    assert {entry.name for entry in run.parent.iterdir()} == {"export", "store", "run"}


def test_what_can_not_be_forgotten_is_refused(places, tmp_path):
    export, _, run = places
    with pytest.raises(InputError, match=r"say where to forget: an export, a model store or a run"):
        forget([GONE])
    for kwargs in ({"export_dir": tmp_path / "no"}, {"store_dir": tmp_path / "no"}, {"run_dirs": [tmp_path / "no"]}):
        with pytest.raises(InputError, match=r"no is (no folder|not the directory of a finished run)"):
            forget([GONE], **kwargs)
        assert not (tmp_path / "no").exists()
    with pytest.raises(InputError, match=r"no is not the directory of a finished run"):
        forget([GONE], export, run_dirs=[tmp_path / "no"])
    assert versions(export / "hqgnn") == [1, 2]
    with run_lock(run), pytest.raises(InputError, match=r"another process is writing into .*run; wait until"):
        forget([GONE], export, run_dirs=[run])
    assert versions(export / "hqgnn") == [1, 2]
    with pytest.raises(InputError, match=r"the ID of a user to forget is empty"):
        forget([""], export)
    everybody = RunDirectory.load(run).dataset.user_ids.tolist()
    for kwargs in ({"export_dir": export}, {"run_dirs": [run]}):
        with pytest.raises(InputError, match=r"has no users but these; delete the folder instead"):
            forget(everybody, **kwargs)
    assert versions(export / "hqgnn") == [1, 2]
