"""What a user of the command line can get wrong: one line and exit code 2; and the file of steps."""

from __future__ import annotations

import pytest

from pipelines import run_kubeflow
from pipelines.kubeflow_steps import DEFAULT_STEPS, read_steps
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError

NAMES = ["RunCheck", "InteractionGen", "Trainer", "IndexGen", "RankingEvaluator", "Pusher"]
GOOD = ["--image", "example/tf-hqgnn:1", "--out", "{tmp}/p.yaml", "--data", "/mnt/data/log.csv"]
VERTEX = ["--platform", "vertex", "--pipeline-root", "gs://bucket/root"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (GOOD[2:], "Missing option '--image'; --help lists the options"),
        (GOOD[:2] + GOOD[4:], "Missing option '--out'; --help lists the options"),
        ([*GOOD, "--image", "tf hqgnn"], "--image 'tf hqgnn': expected an image as HOST/NAME:TAG, for instance"),
        ([*GOOD, "--image", ""], "--image '': expected an image as HOST/NAME:TAG"),
        (
            [*GOOD, "--platform", "airflow"],
            "Invalid value for '--platform': ",
        ),
        ([*GOOD, "--out", "{tmp}/p.json"], "--out {tmp}/p.json: expected a name that ends in .yaml"),
        ([*GOOD, "--out", "{tmp}/no/p.yaml"], "--out {tmp}/no/p.yaml: expected a file in a folder that exists"),
        ([*GOOD, "--config", "{tmp}/no.yaml"], "config {tmp}/no.yaml: No such file or directory"),
        ([*GOOD, "--set", "training.epochs=3"], "unknown setting training.epochs"),
        ([*GOOD, "--min-ndcg", "20"], "--min-ndcg 20.0: input should be less than or equal to 1"),
        (GOOD[:4], "no log to read; give --data PATH, as the steps see it, or data.path in the config"),
        ([*GOOD, "--data", "log.csv"], "data.path log.csv: expected an absolute path, as the steps see it"),
        ([*GOOD, "--data", "gs://bucket/log.csv"], "expected an absolute path, as the steps see it: on a mounted"),
        ([*GOOD, "--items", "items.csv"], "data.items_path items.csv: expected an absolute path"),
        ([*GOOD, "--serving-dir", "models"], "--serving-dir models: expected an absolute path"),
        ([*GOOD, "--model-store", "s3://bucket/store"], "on a mounted volume; steps open no object store"),
        (
            [*GOOD, "--out", "s3://bucket/pipeline.yaml"],
            "--out s3://bucket/pipeline.yaml: expected a path of this machine",
        ),
        (
            [*GOOD, "--set", "data.train_path=/a", "--set", "data.test_path=/b"],
            "--data and data.train_path both name a log; give one of them",
        ),
        ([*GOOD, "--pipeline-root", "/mnt/root"], "--pipeline-root /mnt/root: expected gs://, s3:// or minio:// and a"),
        ([*GOOD, "--platform", "vertex"], "--platform vertex needs --pipeline-root gs://BUCKET/FOLDER"),
        (
            [*GOOD, *VERTEX, "--serving-dir", "/mnt/models"],
            "data.path /mnt/data/log.csv: no such volume on Vertex; expected a path under /gcs/",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, message, tmp_path, capsys):
    assert run_kubeflow.main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert message.format(tmp=tmp_path) in captured.err
    assert captured.out == ""
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_lift=2", "thresholds 'min_lift=2': invalid json"),
        ('{"min_lif": 2}', "min_lif: extra inputs are not permitted; expected JSON with any of min_lift, min_ndcg"),
        ('{"min_ndcg": 2}', "min_ndcg: input should be less than or equal to 1"),
        ("[]", "thresholds '[]': input should be an object"),
    ],
)
def test_mistakes_in_the_thresholds_of_a_run(text, message):
    with pytest.raises(InputError) as error:
        Thresholds.from_json(text)
    assert message in str(error.value)


def test_thresholds_that_a_run_leaves_out_have_their_defaults():
    assert Thresholds.from_json('{"min_lift": 2}') == Thresholds(min_lift=2)


def read(tmp_path, text: str):
    path = tmp_path / "steps.yaml"
    path.write_text(text)
    return read_steps(path, NAMES)


def test_what_a_step_says_replaces_what_all_say(tmp_path):
    steps = read(
        tmp_path,
        "all: {cpu: 2, memory_gb: 4, kubernetes: {imagePullPolicy: Always, pvcMount: [{constant: a, mountPath: /a}]}}\n"
        "Trainer: {memory_gb: 64, kubernetes: {pvcMount: [{constant: b, mountPath: /b}]}}\n",
    )
    assert set(steps) == set(NAMES)
    trainer, pusher = steps["Trainer"], steps["Pusher"]
    assert (trainer.cpu, trainer.memory_gb, pusher.cpu, pusher.memory_gb) == (2, 64, 2, 4)
    assert trainer.kubernetes.to_json() == {
        "imagePullPolicy": "Always",
        "pvcMount": [{"constant": "b", "mountPath": "/b"}],
    }
    assert pusher.kubernetes.to_json()["pvcMount"] == [{"constant": "a", "mountPath": "/a"}]


def test_an_empty_file_leaves_all_to_the_cluster(tmp_path):
    step = read(tmp_path, "")["Trainer"]
    assert (step.cpu, step.memory_gb, step.gpu, step.image, step.kubernetes.to_json()) == (None, None, 0, None, {})


def test_the_default_mounts_the_logs_the_model_store_and_the_served_models_in_every_step():
    """Steps read the model store and the served models from the first to the last."""
    for step in read_steps(DEFAULT_STEPS, NAMES).values():
        mounts = {mount.mountPath: mount.constant for mount in step.kubernetes.pvcMount}
        assert mounts == {"/mnt/models": "models", "/mnt/store": "store", "/mnt/data": "data"}
        assert step.cpu_request < step.cpu
        assert step.memory_request_gb < step.memory_gb


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Tuner: {cpu: 2}", "no step is called Tuner; there are all, RunCheck, InteractionGen, Trainer"),
        ("Trainer: 4", "expected `step: {cpu: .., memory_gb: .., ..}`"),
        ("Trainer: {cpu: [}", "not valid YAML: "),
        ("Trainer: {cpus: 2}", "Trainer.cpus: no such field"),
        ("Trainer: {cpu_request: 0}", "Trainer.cpu_request: Input should be greater than 0, got 0"),
        ("all: {cpu: 2}\nTrainer: {cpu_request: 4}", "Trainer.cpu_request is 4, more than the limit cpu of 2"),
        (
            "Trainer: {memory_gb: 8, memory_request_gb: 8.5}",
            "Trainer.memory_request_gb is 8.5, more than the limit memory_gb of 8",
        ),
        ("Trainer: {cpu: 0}", "Trainer.cpu: Input should be greater than 0, got 0"),
        ("Trainer: {gpu: -1}", "Trainer.gpu: Input should be greater than or equal to 0, got -1"),
        ("all: {kubernetes: {secrets: []}}", "RunCheck.kubernetes.secrets: no such field"),
        (
            "Trainer: {kubernetes: {pvcMount: [{constant: models, mountPath: models}]}}",
            "Trainer.kubernetes.pvcMount.0.mountPath: String should match pattern",
        ),
        (
            "Trainer: {kubernetes: {pvcMount: [{constant: a, mountPath: /a}, {constant: b, mountPath: /a}]}}",
            "/a is the mountPath of 2 volumes; give each its own",
        ),
        (
            "Trainer: {kubernetes: {tolerations: [{key: gpu, operator: Exists, value: x}]}}",
            "operator Exists takes no value; leave it out, or use Equal",
        ),
        ("Trainer: {kubernetes: {tolerations: [{value: x}]}}", "operator Equal needs a key"),
        (
            "Trainer: {kubernetes: {secretAsEnv: [{secretName: S, keyToEnv: [{secretKey: k, envVar: E}]}]}}",
            "Trainer.kubernetes.secretAsEnv.0.secretName: String should match pattern",
        ),
        (
            "Trainer: {kubernetes: {secretAsEnv: [{secretName: s, keyToEnv: []}]}}",
            "Trainer.kubernetes.secretAsEnv.0.keyToEnv: List should have at least 1 item",
        ),
        ("Trainer: {kubernetes: {imagePullPolicy: Sometimes}}", "Input should be 'Always', 'IfNotPresent' or 'Never'"),
    ],
)
def test_mistakes_in_the_file_of_steps(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"--steps {tmp_path}/steps.yaml: ")
    assert message in str(error.value)


def test_a_file_of_steps_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: No such file or directory; expected a YAML file that can be read"):
        read_steps(tmp_path / "no.yaml", NAMES)
