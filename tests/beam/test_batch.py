"""`tf-hqgnn batch` in this process: the same answers as a server's, counts that add up, and going on after a crash."""

import contextlib
import io
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tf_hqgnn.beam import batch as batch_module
from tf_hqgnn.beam.batch import batch, commit
from tf_hqgnn.beam.plan import Plan, make_plan
from tf_hqgnn.beam.running import PipelineFailed
from tf_hqgnn.beam.sinks import write_bytes
from tf_hqgnn.cli.commands import main
from tf_hqgnn.serving.client import Client, LocalModel
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.long
MODELS = ("hqgnn", "hqgnn_scann")


def path_of(models, name="hqgnn"):
    return str(models / name / "1")


def quiet(line):
    """Progress that nobody looks at."""


def rows_of(report):
    """Of a Parquet output, `{user: (known, items, scores)}`; fails if a user is there twice."""
    rows = [row for path in report.files for row in pq.read_table(path).to_pylist()]
    found = {row["user_id"]: (row["known_user"], tuple(row["item_ids"]), row["scores"]) for row in rows}
    assert len(found) == len(rows) == report.rows
    return found


def assert_as_served(rows, answers):
    """The answers of `Recommender.recommend`, row for row."""
    assert set(rows) == {answer.user_id for answer in answers}
    for answer in answers:
        known, items, scores = rows[answer.user_id]
        assert (known, items) == (answer.known_user, answer.item_ids), answer.user_id
        np.testing.assert_allclose(scores, answer.scores, rtol=1e-6, atol=1e-6)


def run(*arguments):
    """The command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["tf-hqgnn", "batch", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return ended.value.code or 0, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_all_users_get_what_a_server_answers_them_one_by_one(models, tmp_path, name):
    model = path_of(models, name)
    report = batch(model, "all", str(tmp_path / "out.parquet"), num_shards=3, say=quiet, batch_size=64)
    assert (report.users_in, report.rows, report.known_users, report.rejected) == (300, 300, 300, {})
    assert report.files == [str(tmp_path / f"out-0000{shard}-of-00003.parquet") for shard in range(3)]
    rows = rows_of(report)
    local = LocalModel(model)
    assert_as_served(rows, [answer for user in rows for answer in local.recommend([user], k=10)])
    with Server(models, grpc_port=0, rest_port=0) as server, Client(f"127.0.0.1:{server.grpc_port}") as client:
        assert_as_served(rows, client.recommend(list(rows), k=10, model=name))
    assert min(len(items) for _, items, _ in rows.values()) == 0  # the user who has seen everything


def test_an_approximate_index_answers_batches_as_its_signature_does(hasty_model, tmp_path):
    report = batch(hasty_model, "all", str(tmp_path / "out.parquet"), num_shards=2, say=quiet, batch_size=64)
    rows = rows_of(report)
    users = [pq.read_table(path).column("user_id").to_pylist() for path in report.files]
    parts = [ids[start : start + 64] for ids in users for start in range(0, len(ids), 64)]
    local = LocalModel(hasty_model)
    assert_as_served(rows, [answer for part in parts for answer in local.recommend(part, k=10)])


def test_counts_add_up_and_every_rejected_row_is_named(models, tmp_path):
    ids = [b"u1", b"", b"u2", b"\xff\xfe", b"u1", b"nobody", b"x" * 5000, b"u3", b""]
    (tmp_path / "users.txt").write_bytes(b"\n".join(ids) + b"\r\n")
    out = str(tmp_path / "out.parquet")
    code, stdout, stderr = run(
        "--model", path_of(models), "--users", tmp_path / "users.txt", "--out", out, "--shards", 2, "--json"
    )
    assert code == 0, stderr
    report = json.loads(stdout)
    assert report["users_in"] == 9
    assert report["rejected"] == {"duplicate": 1, "empty id": 2, "too long": 1, "undecodable": 1}
    assert (report["rows"], report["known_users"]) == (4, 3)
    written = json.loads((tmp_path / "out.parquet.report.json").read_text())
    assert {name: written[name] for name in report} == report
    lines = [json.loads(line) for line in (tmp_path / "out.parquet.rejected.jsonl").read_text().splitlines()]
    assert {(line["row"], line["reason"]) for line in lines} == {
        (2, "empty id"),
        (4, "undecodable"),
        (5, "duplicate"),
        (7, "too long"),
        (9, "empty id"),
    }
    assert {line["file"] for line in lines} == {str(tmp_path / "users.txt")}
    assert [line["user_id"] for line in lines if line["row"] == 4] == ["\\xff\\xfe"]
    assert not (tmp_path / "out.parquet.partial").exists()


def test_unknown_users_get_popular_items_or_are_rejected(models, tmp_path):
    (tmp_path / "users.csv").write_text("age,user_id\n7,u1\n8,nobody\n9\n")
    arguments = ["--model", path_of(models), "--users", tmp_path / "users.csv", "-k", 4]
    code, stdout, stderr = run(*arguments, "--out", tmp_path / "a.parquet")
    assert code == 0, stderr
    assert stdout.startswith(
        "3 users in, 2 answered (1 unknown ones with popular items), 1 rejected: 1 wrong number of columns\n1 files"
    )
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    (popular,) = LocalModel(path_of(models)).recommend(["nobody"], k=4)
    assert [(row["user_id"], row["known_user"]) for row in rows] == [("u1", True), ("nobody", False)]
    assert tuple(rows[1]["item_ids"]) == popular.item_ids
    code, stdout, _ = run(*arguments, "--out", tmp_path / "b.parquet", "--reject-unknown", "--json")
    assert (code, json.loads(stdout)["rows"]) == (0, 1)
    assert json.loads(stdout)["rejected"] == {"unknown user": 1, "wrong number of columns": 1}


def test_excluded_items_never_come_back(models, tmp_path):
    model = path_of(models)
    (popular,) = LocalModel(model).recommend(["nobody"], k=5)
    plain = [item for item in popular.item_ids if "\n" not in item]
    (tmp_path / "not.txt").write_text("\n".join(plain[:2]) + "\n")
    (tmp_path / "users.txt").write_text("nobody\nu1\n")
    code, _, stderr = run(
        *("--model", model, "--users", tmp_path / "users.txt", "--out", tmp_path / "a.parquet"),
        *("--exclude", tmp_path / "not.txt", "-k", 3),
    )
    assert code == 0, stderr
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    assert {row["user_id"]: row["item_ids"] for row in rows}["nobody"] == [
        item for item in popular.item_ids if item not in plain[:2]
    ]


def test_candidates_are_reranked_as_served(models, tmp_path):
    model, names = path_of(models), ["i3", "i4", "i9", "i17", "i44", "nothing"]
    (tmp_path / "some.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "users.txt").write_text("nobody\nu1\nu2\nu3\n")
    for allow_seen in (False, True):
        out = tmp_path / f"{allow_seen}.parquet"
        code, _, stderr = run(
            *("--model", model, "--users", tmp_path / "users.txt", "--out", out, "-k", 4),
            *("--candidates", tmp_path / "some.txt", *(["--allow-seen"] if allow_seen else [])),
        )
        assert code == 0, stderr
        rows = pq.read_table(tmp_path / f"{allow_seen}-00000-of-00001.parquet").to_pylist()
        found = {row["user_id"]: (row["known_user"], tuple(row["item_ids"]), row["scores"]) for row in rows}
        assert_as_served(found, LocalModel(model).rerank(["nobody", "u1", "u2", "u3"], names, 4, allow_seen))


def test_every_wish_is_asked_as_served(models, tmp_path):
    model, users = path_of(models), ["nobody", "u1", "u2", "u3"]
    (tmp_path / "users.txt").write_text("\n".join(users) + "\n")
    (tmp_path / "not.txt").write_text("i3\ni4\n")
    code, _, stderr = run(
        *("--model", model, "--users", tmp_path / "users.txt", "--out", tmp_path / "a.parquet", "-k", 4),
        *("--exclude", tmp_path / "not.txt", "--allow-seen", "--category", "film", "--category", "book"),
        *("--exclude-category", "rare", "--diversity", 0.4, "--popularity", -0.5),
    )
    assert code == 0, stderr
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    found = {row["user_id"]: (row["known_user"], tuple(row["item_ids"]), row["scores"]) for row in rows}
    wishes = {"category": ["film", "book"], "exclude_category": "rare", "diversity": 0.4, "popularity": -0.5}
    asked = LocalModel(model).recommend_where(users, 4, ["i3", "i4"], allow_seen=True, **wishes)
    assert_as_served(found, asked)
    assert all(len(answer.item_ids) == 4 for answer in asked)


def test_new_interactions_count_for_their_users(models, tmp_path):
    model, users, log = path_of(models), ["u5", "u6", "u7", "nobody"], tmp_path / "log.csv"
    (tmp_path / "users.txt").write_text("\n".join(users) + "\n")
    log.write_text("user_id,item_id\nu5,i3\nu5,i4\nnobody,i9\nsomebody,i1\nu6,unknown\n")
    histories = [["i3", "i4"], ["unknown"], [], ["i9"]]
    out = str(tmp_path / "a.parquet")
    report = batch(model, str(tmp_path / "users.txt"), out, say=quiet, k=5, histories=str(log))
    assert_as_served(rows_of(report), LocalModel(model).recommend_with_history(users, histories, 5))


def test_pairs_are_scored_as_served(models, tmp_path):
    model, users, log = path_of(models), ["u5", "u6", "u7", "nobody"], tmp_path / "log.csv"
    (tmp_path / "users.txt").write_text("\n".join(users) + "\n")
    log.write_text("user_id,item_id\nu5,i3\nu5,unknown\nu5,i4\nu5,i9\nnobody,i9\nsomebody,i1\nu6,i3\n")
    out = tmp_path / "a.parquet"
    code, _, stderr = run("--model", model, "--users", tmp_path / "users.txt", "--out", out, "--score", log)
    assert code == 0, stderr
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    found = {row["user_id"]: dict(zip(row["item_ids"], row["scores"])) for row in rows}
    (of_5, of_6) = LocalModel(model).score(["u5", "u6"], [["i3", "i4", "i9"], ["i3"]])
    assert found["u5"] == pytest.approx(dict(zip(["i3", "i4", "i9"], of_5.scores)), rel=1e-6)
    assert found["u6"] == pytest.approx({"i3": of_6.scores[0]}, rel=1e-6)
    assert (found["u7"], found["nobody"]) == ({}, {})
    assert sorted(found["u5"].values(), reverse=True) == list(found["u5"].values())


PAIRS = [
    ("u5", "i3"),
    ("u5", "unknown"),
    ("u5", "i4"),
    ("u5", "i9"),
    ("nobody", "i9"),
    ("somebody", "i1"),
    ("u6", "i3"),
]
EXPLAINED = ["user_id", "known_user", "item_ids", "scores", "rest", "history_item_ids", "shares"]
ASKED = ["u5", "u6", "u7", "nobody"]


def examples_of(report):
    """The features of a TFRecord output, by user."""
    found = {}
    for record in tf.data.TFRecordDataset(report.files).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        values = {name: list(getattr(one, one.WhichOneof("kind")).value) for name, one in feature.items()}
        found[values["user_id"][0].decode()] = values
    return found


@pytest.mark.parametrize("name", MODELS)
def test_pairs_are_explained_as_served(models, tmp_path, name):
    model, log = path_of(models, name), tmp_path / "log.csv"
    (tmp_path / "users.txt").write_text("\n".join(ASKED) + "\n")
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in PAIRS))
    out = tmp_path / "a.parquet"
    arguments = "--model", model, "--users", tmp_path / "users.txt", "-k", 3, "--batch-size", 2
    code, _, stderr = run(*arguments, "--out", out, "--explain", log)
    assert code == 0, stderr
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    assert [list(row) for row in rows] == [EXPLAINED] * 4
    assert [(row["user_id"], row["known_user"]) for row in rows] == [(user, user != "nobody") for user in ASKED]
    asked = {"u5": ["i3", "i4", "i9"], "u6": ["i3"], "u7": [], "nobody": []}
    local = LocalModel(model)
    for row in rows:
        assert row["item_ids"] == asked[row["user_id"]]
        served = local.explain([row["user_id"]] * len(row["item_ids"]), row["item_ids"], 3)
        assert [tuple(ids) for ids in row["history_item_ids"]] == [one.item_ids for one in served]
        for found, one in zip(row["shares"], served, strict=True):
            np.testing.assert_allclose(found, one.shares, rtol=1e-6)
        np.testing.assert_allclose(row["scores"], [one.score for one in served], rtol=1e-6)
        np.testing.assert_allclose(row["rest"], [one.rest for one in served], atol=1e-6)
    assert max(len(ids) for row in rows for ids in row["history_item_ids"]) == 3
    # The same as TFRecord.
    users = str(tmp_path / "users.txt")
    examples = examples_of(batch(model, users, str(tmp_path / "a.tfrecord"), say=quiet, k=3, explain=str(log)))
    for row in rows:
        found = examples[row["user_id"]]
        assert found["known_user"] == [row["known_user"]]
        assert found["item_ids"] == [item.encode() for item in row["item_ids"]]
        lengths = [len(ids) for ids in row["history_item_ids"]]
        assert found["history_item_ids_lengths"] == found["shares_lengths"] == lengths
        assert found["history_item_ids"] == [item.encode() for ids in row["history_item_ids"] for item in ids]
        np.testing.assert_allclose(found["shares"], [share for one in row["shares"] for share in one], rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_similar_users_are_those_of_the_highest_cosine(models, tmp_path, name):
    model = path_of(models, name)
    (tmp_path / "users.txt").write_text("\n".join(ASKED) + "\n")
    arguments = "--model", model, "--users", tmp_path / "users.txt", "-k", 7, "--similar-users"
    code, _, stderr = run(*arguments, "--out", tmp_path / "a.parquet")
    assert code == 0, stderr
    rows = pq.read_table(tmp_path / "a-00000-of-00001.parquet").to_pylist()
    assert [list(row) for row in rows] == [["user_id", "known_user", "similar_user_ids", "scores"]] * 4
    everyone = batch(model, "all", str(tmp_path / "all.parquet"), say=quiet, k=1)
    others = [row["user_id"] for path in everyone.files for row in pq.read_table(path).to_pylist()]
    signature = tf.saved_model.load(model).signatures["embed_user"] if name == "hqgnn" else None
    for row in rows:
        if row["user_id"] == "nobody":
            assert (row["known_user"], row["similar_user_ids"], row["scores"]) == (False, [], [])
            continue
        (served,) = LocalModel(model).similar_users([row["user_id"]], 7)
        assert tuple(row["similar_user_ids"]) == served.user_ids
        np.testing.assert_allclose(row["scores"], served.scores, rtol=1e-5)
        if signature is not None:
            embeddings = signature(user_id=tf.constant(others))["embedding"].numpy().astype(np.float64)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            cosines = embeddings @ embeddings[others.index(row["user_id"])]
            cosines[others.index(row["user_id"])] = -np.inf
            np.testing.assert_allclose(row["scores"], np.sort(cosines)[::-1][:7], rtol=1e-5)
            found = [cosines[others.index(other)] for other in row["similar_user_ids"]]
            np.testing.assert_allclose(found, row["scores"], rtol=1e-5)
    users = str(tmp_path / "users.txt")
    examples = examples_of(batch(model, users, str(tmp_path / "a.tfrecord"), say=quiet, k=7, similar_users=True))
    for row in rows:
        assert examples[row["user_id"]]["similar_user_ids"] == [other.encode() for other in row["similar_user_ids"]]


def test_tfrecords_hold_the_same_as_parquet(models, tmp_path):
    pq.write_table(
        pa.table({"user_id": pa.array(["u1", "nobody", "日本"]).dictionary_encode()}), tmp_path / "u.parquet"
    )
    model, users = path_of(models), str(tmp_path / "u.parquet")
    expected = rows_of(batch(model, users, str(tmp_path / "a.parquet"), say=quiet, k=5))
    report = batch(model, users, str(tmp_path / "a.tfrecord"), say=quiet, k=5)
    found = {}
    for record in tf.data.TFRecordDataset(report.files).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        (user,) = feature["user_id"].bytes_list.value
        items = tuple(item.decode() for item in feature["item_ids"].bytes_list.value)
        known = bool(feature["known_user"].int64_list.value[0])
        found[user.decode()] = (known, items, list(feature["scores"].float_list.value))
    assert found == expected
    assert len(found["u1"][1]) == 5


def test_a_crash_leaves_no_output_and_the_same_call_goes_on(models, tmp_path, monkeypatch):
    """One shard fails at its last step; then the disk fails between two renames of the commit."""
    model, out = path_of(models), str(tmp_path / "out.parquet")
    expected = rows_of(batch(model, "all", str(tmp_path / "whole.parquet"), say=quiet, num_shards=1))

    def fail_at_shard_2(path, data):
        if path.endswith("shard-00002.json"):
            raise OSError("disk full")
        write_bytes(path, data)

    monkeypatch.setattr("tf_hqgnn.beam.sinks.write_bytes", fail_at_shard_2)
    with pytest.raises(PipelineFailed, match=r"OSError: disk full \[while running"):
        batch(model, "all", out, say=quiet, num_shards=4)
    assert [path.name for path in tmp_path.glob("out*")] == ["out.parquet.partial"]
    done = Plan.load(out + ".partial").done()
    assert 2 not in done
    before = {shard: (tmp_path / f"out.parquet.partial/shard-{shard:05d}.parquet").stat() for shard in done}

    renamed = []
    rename = batch_module.FileSystems.rename

    def fail_at_second_shard(sources, targets):
        if "out-0" in targets[0] and len(renamed) == 1:
            raise OSError("disk gone")
        rename(sources, targets)
        renamed.extend(target for target in targets if "out-0" in target)

    monkeypatch.setattr("tf_hqgnn.beam.sinks.write_bytes", write_bytes)
    monkeypatch.setattr(batch_module.FileSystems, "rename", fail_at_second_shard)
    with pytest.raises(OSError, match="disk gone"):
        batch(model, "all", out, say=quiet, num_shards=4)
    monkeypatch.setattr(batch_module.FileSystems, "rename", rename)
    assert not (tmp_path / "out.parquet.report.json").exists()

    said = []
    report = batch(model, "all", out, say=said.append, num_shards=4)
    assert said[0] == "batch: 4 of 4 shards are done already"
    assert rows_of(report) == expected
    for shard, stat in before.items():
        after = Path(report.files[shard]).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert not (tmp_path / "out.parquet.partial").exists()


def test_what_is_there_is_neither_overwritten_nor_mixed_with_another_run(models, tmp_path):
    model, out = path_of(models), str(tmp_path / "out.parquet")
    make_plan(model, "all", out, k=10, num_shards=2).save()
    with pytest.raises(InputError, match=r"out\.parquet\.partial holds the finished part of another run \(k differ\)"):
        batch(model, "all", out, say=quiet, k=5, num_shards=2)
    (tmp_path / "out.parquet.partial" / "plan.json").unlink()
    (tmp_path / "out.parquet.partial").rmdir()
    (tmp_path / "out-00000-of-00009.parquet").touch()
    with pytest.raises(InputError, match=r"out-00000-of-00009\.parquet exists, and nothing is overwritten"):
        batch(model, "all", out, say=quiet)
    (tmp_path / "out.parquet.report.json").touch()
    with pytest.raises(InputError, match=r"report\.json exists, and nothing is overwritten: delete it, or"):
        batch(model, "all", out, say=quiet)


def test_users_that_get_lost_are_noticed(models, tmp_path):
    plan = make_plan(path_of(models), "all", str(tmp_path / "out.parquet"), num_shards=1)
    plan.save()
    with pytest.raises(PipelineFailed, match="1 of 1 shards are missing"):
        commit(plan, 0.0)
    manifest = {"rows": 299, "known_users": 299, "rejected": {}}
    (tmp_path / "out.parquet.partial" / "shard-00000.json").write_text(json.dumps(manifest))
    (tmp_path / "out.parquet.partial" / "read.json").write_text("300")
    with pytest.raises(PipelineFailed, match="300 users were read, but 299 answered and 0 rejected"):
        commit(plan, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--direct_num_worker=2"], "--direct_num_worker=2: not an option of this command nor of Apache Beam; do you "),
        (["--runner", "DaskRunner"], "--runner=DaskRunner loses data without an error"),
        (["--runner=MarsRunner"], "--runner=MarsRunner: "),
        (["--direct_num_workers=2"], "--direct_num_workers=2 has no effect in memory: add --direct_running_mode=multi"),
        (["--direct_running_mode=fast"], "Beam: argument --direct_running_mode: invalid choice: 'fast'"),
        (["--shards", "200000"], "200,000 shards are too many, at most 100,000"),
        (
            ["--users", "none.txt"],
            "--users none.txt: no such file; expected ids one a line, CSV or Parq",
        ),
        (["--out", "out.csv"], "--out out.csv: expected a name that ends in .parquet or .tfrecord"),
        (["--out", "out*.parquet"], "--out out*.parquet: expected a name without *, ? and ["),
        (
            ["--model", "nothing"],
            "nothing doesn't exist: expected a version of a model, such as --model EXPORT_DIR/hqgnn/1",
        ),
        (["--exclude", "none.txt"], "none.txt: no such file; expected a file of ids, check --exclude"),
        (["--candidates", "none.txt"], "none.txt: no such file; expected a file of ids, check --candidates"),
        (["--allow-seen", "--histories", "log.csv"], "--score, --histories, --user-features and a choice of items"),
        (["--score", "log.csv", "--histories", "log.csv"], "--score, --histories, --user-features and a choice"),
        (["--explain", "log.csv", "--similar-users"], "--score, --histories, --user-features and a choice"),
        (["--explain", "log.csv", "-k", "5", "--allow-seen"], "--score, --histories, --user-features and a choice"),
        (["--histories", "none.csv"], "none.csv: no such file"),
        (["--explain", "none.csv"], "none.csv: no such file"),
        (["--tf-threads", "1"], "--tf-threads: TensorFlow already runs in this process: add --direct_running_mode="),
    ],
)
def test_mistakes_are_one_line(models, tmp_path, arguments, message):
    required = ["--model", path_of(models), "--users", "all", "--out", tmp_path / "out.parquet"]
    code, stdout, stderr = run(*required, *arguments)
    assert (code, stdout) == (2, ""), stderr
    assert stderr.startswith(f"tf-hqgnn: {message}")
    assert stderr.count("\n") == 1


def test_without_beam_it_says_what_to_install(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    code, _, stderr = run("--model", path_of(models), "--users", "all", "--out", tmp_path / "out.parquet")
    assert code == 2
    assert stderr == "tf-hqgnn: batch needs the package apache_beam: pip install 'tf_hqgnn[beam]'\n"


@pytest.mark.usefixtures("models")
def test_a_model_without_what_is_needed(waiting_model, tmp_path):
    path, _ = waiting_model
    with pytest.raises(InputError, match="waiting doesn't say who its users are; name a file of ids instead"):
        batch(str(path), "all", str(tmp_path / "out.parquet"), say=quiet)
    half = tf.Module()
    half.half = tf.function(lambda x: {"y": x / 2}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(half, str(tmp_path / "half"), signatures={"half": half.half})
    (tmp_path / "users.txt").write_text("u1\n")
    with pytest.raises(InputError, match="has no signature recommend, only half: expected one of `tf-hqgnn export`"):
        batch(str(tmp_path / "half"), str(tmp_path / "users.txt"), str(tmp_path / "out.parquet"), say=quiet)


def test_a_second_run_into_the_same_output_is_refused(models, tmp_path):
    refused = []

    def start_another(_line):
        if not refused:
            refused.append("started")
            with pytest.raises(InputError) as error:
                batch(path_of(models), "all", str(tmp_path / "out.parquet"), num_shards=2, say=quiet)
            refused.append(str(error.value))

    out = tmp_path / "out.parquet"
    with mock.patch.object(batch_module, "_POLL_SECONDS", 0.01):
        batch(path_of(models), "all", str(out), num_shards=2, say=start_another)
    assert refused[1:] == [f"--out {out}: another run is writing it; wait until it is done, or choose another name"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", ["", '{"model": '])
def test_a_damaged_plan_is_named(models, tmp_path, monkeypatch, content):
    monkeypatch.setattr(batch_module, "run_pipeline", mock.Mock(side_effect=PipelineFailed("stopped")))
    out = str(tmp_path / "out.parquet")
    with pytest.raises(PipelineFailed):
        batch(path_of(models), "all", out, num_shards=2, say=quiet)
    (plan,) = tmp_path.rglob("plan.json")
    plan.write_text(content)
    with pytest.raises(InputError, match=rf"^{plan}: the file is damaged \(.*\); delete {plan.parent}, and run"):
        batch(path_of(models), "all", out, num_shards=2, say=quiet)
