"""Object stores: an S3 server on loopback for the jobs, and what is said without the libraries or the server."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from export_oracle import make_bundle
from object_store import KEYS, PYTHON, ROOT, ObjectStore

from tf_hqgnn.beam.flags import parse_flags
from tf_hqgnn.beam.places import for_tensorflow, reach
from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.types import InputError

# boto3, which `apache-beam[aws]` asks for, from the server's environment, behind all packages of this one.
CODE = """
import pathlib, sys
sys.path += map(str, pathlib.Path(sys.argv.pop(1)).glob("lib/python*/site-packages"))
from tf_hqgnn.cli.commands import main
main()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with ObjectStore("bucket", tmp_path_factory.mktemp("s3") / "log") as store:
        yield store


def run(store, *arguments, folder):
    command = [
        sys.executable,
        "-c",
        CODE,
        PYTHON.parents[1],
        *map(str, arguments),
        f"--s3_endpoint_url={store.endpoint}",
    ]
    environment = {**os.environ, **KEYS, "AWS_DEFAULT_REGION": KEYS["AWS_REGION"], "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.engines
def test_batch_reads_users_from_a_bucket_and_writes_what_it_writes_to_a_folder(models, store, tmp_path):
    users = tmp_path / "users.csv"
    users.write_text("\n".join(["user_id", *make_bundle(num_users=300, num_items=400, dim=8).user_ids[:50], "nobody"]))
    store.upload(users, "s3://bucket/in/users.csv")
    asked = ("batch", "--model", models / "hqgnn" / "1", "--shards", 2)
    local = run(store, *asked, "--users", users, "--out", "out.parquet", folder=tmp_path)
    assert local.returncode == 0, local.stderr
    done = run(
        store, *asked, "--users", "s3://bucket/in/users.csv", "--out", "s3://bucket/out/out.parquet", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    files = store.keys("s3://bucket/out")
    assert not any(".tmp-" in name for name in files)
    assert [name for name in files if name.endswith(".parquet")] == [
        f"bucket/out/out-0000{shard}-of-00002.parquet" for shard in range(2)
    ]
    for shard in range(2):
        with store.files.open_input_file(f"bucket/out/out-0000{shard}-of-00002.parquet") as file:
            assert pq.read_table(file).equals(pq.read_table(tmp_path / f"out-0000{shard}-of-00002.parquet"))


@pytest.mark.engines
def test_train_by_a_runner_reads_the_log_from_a_bucket(store, tmp_path):
    log = tmp_path / "log.csv"
    write_log(generate_log(60, 40, 900, seed=3), log)
    store.upload(log, "s3://bucket/logs/day-1.csv")
    small = ["--set", "model.embedding_dim=8", "--set", "quantization.bits=null"]
    runs = []
    for name, path in (("local", log), ("remote", "s3://bucket/logs/day-*.csv")):
        trained = run(
            store,
            "train",
            "spectral",
            "--runner=DirectRunner",
            "--set",
            f"data.path={path}",
            *small,
            "--out",
            name,
            folder=tmp_path,
        )
        assert trained.returncode == 0, trained.stderr
        runs.append(json.loads((tmp_path / name / "metrics.json").read_text()))
    assert runs[0]["valid"] == pytest.approx(runs[1]["valid"], abs=1e-6)


@pytest.mark.engines
def test_a_bucket_that_is_not_there_is_told_in_a_line(models, store, tmp_path):
    asked = ("batch", "--model", models / "hqgnn" / "1", "--users", "all")
    missing = run(store, *asked, "--out", "s3://other/out.parquet", folder=tmp_path)
    assert missing.returncode == 2
    (line,) = missing.stderr.splitlines()
    assert line.startswith("tf-hqgnn: --out s3://other/out.parquet: the store refuses, or doesn't answer (")
    assert "NoSuchBucket" in line


def test_without_the_libraries_of_a_store_they_are_named():
    pytest.importorskip("apache_beam")
    parse_flags([])
    with pytest.raises(
        InputError, match=r'^--out s3://b/x: s3:// needs libraries .*: pip install "apache-beam\[aws\]"'
    ):
        reach("--out", "s3://b/x")
    with pytest.raises(
        InputError, match=r"^--users ftp://b/x: ftp:// is no store that Beam reads here; expected s3://"
    ):
        reach("--users", "ftp://b/x")
    assert reach("--out", "out.parquet") == "out.parquet"


def test_a_model_is_loaded_from_where_tensorflow_can():
    with pytest.raises(InputError, match=r"^--model s3://b/hqgnn/1: TensorFlow loads no model from s3://"):
        for_tensorflow("--model", "s3://b/hqgnn/1")
    assert for_tensorflow("--model", "export/hqgnn/1") == "export/hqgnn/1"
