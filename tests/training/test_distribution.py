"""Training on several devices and in a cluster, against one device: what is learnt, who writes, restarts."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import Config
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.training import distribution
from tf_hqgnn.training.distribution import (
    WorkerLostError,
    check_agreement,
    check_tf_config,
    from_chief,
    make_strategy,
    share_variables,
    watch_workers,
)
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

# Against hanging only.
DEADLINE = 400


def changed(config, **sections):
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    )


def tf_config(cluster, job="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})}


ADDRESS = "host-0:2222"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {},
            r"environment variable TF_CONFIG isn't set; give every worker its own, such as \{.*training.strategy=none",
        ),
        ({"TF_CONFIG": "{"}, r"TF_CONFIG isn't JSON \(Expecting property name.*expected \{"),
        ({"TF_CONFIG": "[1]"}, r"needs `cluster` and `task`, got \[1\]; expected \{"),
        ({"TF_CONFIG": '{"cluster": {}, "task": {}}'}, "needs `cluster` and `task`"),
        (tf_config({"worker": [ADDRESS], "ps": [ADDRESS]}), "has the jobs chief and worker, got 'ps'"),
        (tf_config({"worker": ADDRESS}), "worker must be a list of HOST:PORT, got 'host-0:2222'"),
        (tf_config({"worker": ["host-0"]}), r"worker must be a list of HOST:PORT, got \['host-0'\]"),
        (tf_config({"worker": ["host-0:70000"]}), "worker must be a list of HOST:PORT"),
        (tf_config({"worker": [ADDRESS]}, "chief"), "task.type must be one of worker, got 'chief'"),
        (tf_config({"worker": [ADDRESS]}, index=1), "task.index must be a number from 0 to 0, a place in .*, got 1"),
        (tf_config({"worker": [ADDRESS]}, index="0"), "task.index must be .*, got '0'"),
    ],
)
def test_a_wrong_tf_config_is_named(environ, message):
    with pytest.raises(InputError, match=message):
        check_tf_config(environ)


def test_a_right_tf_config_passes():
    check_tf_config(tf_config({"chief": ["10.0.0.1:1"], "worker": ["[::1]:65535", "b.c:3"]}, index=1))


def test_a_cluster_cannot_be_joined_late(monkeypatch):
    tf.constant(0.0)
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": ["127.0.0.1:1"]})["TF_CONFIG"])
    with pytest.raises(RuntimeError, match=r"call make_strategy\('multi_worker'\) at its start"):
        make_strategy("multi_worker")


def test_a_taken_port_is_named(smoke_config, tmp_path, run_command):
    (tmp_path / "config.yaml").write_text(changed(smoke_config, training={"strategy": "multi_worker"}).to_yaml())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cluster = {"worker": [f"127.0.0.1:{taken.getsockname()[1]}"]}
        run = run_command("train", tmp_path / "config.yaml", "--out", tmp_path / "run", **tf_config(cluster))
    assert run.code == 2
    assert "TF_CONFIG: this worker can't take its place in the cluster (Could not start gRPC" in run.err


def test_only_a_clusters_errors_are_of_lost_workers(monkeypatch):
    text = "Graph execution error:\n\nDetected at node x\n  File y\n\nConnection reset by peer\nmore"
    error = tf.errors.UnavailableError(None, None, text)
    with pytest.raises(tf.errors.UnavailableError), watch_workers(make_strategy("none")):
        raise error
    monkeypatch.setattr(distribution, "is_cluster", lambda _strategy: True)
    expected = r"start all of them again with --resume to go on from the last checkpoint \(Connection reset by peer\)$"
    with pytest.raises(WorkerLostError, match=expected), watch_workers(make_strategy("none")):
        raise error


@pytest.fixture
def wire(monkeypatch):
    """A cluster whose chief speaks first, all it has to say, and whose other worker listens afterwards."""
    sent = []

    class Wire:
        def become(self, chief):
            def tell(_strategy, values):
                sent.append(values)
                return values

            def listen(_strategy, values):
                assert (values.shape, values.dtype) == (sent[0].shape, sent[0].dtype)
                return sent.pop(0)

            monkeypatch.setattr(distribution, "is_cluster", lambda _strategy: True)
            monkeypatch.setattr(distribution, "is_chief", lambda _strategy: chief)
            monkeypatch.setattr(distribution, "array_of_chief", tell if chief else listen)

    return Wire()


def test_workers_get_what_the_chief_found(wire):
    value = {"ndcg@20": 0.1 + 0.2, "text": "é", "list": [None, True]}
    wire.become(chief=True)
    assert from_chief(None, lambda: value) == value
    wire.become(chief=False)
    assert from_chief(None, pytest.fail) == value


def test_a_users_mistake_ends_all_workers(wire):
    def refuse():
        raise InputError("run exists already")

    for chief in (True, False):
        wire.become(chief)
        with pytest.raises(InputError, match=r"^run exists already$"):
            from_chief(None, refuse)


def test_workers_with_other_settings_are_refused(wire):
    wire.become(chief=True)
    check_agreement(None, lambda: "seed: 1", "settings")
    check_agreement(None, lambda: "seed: 1", "settings")
    wire.become(chief=False)
    check_agreement(None, lambda: "seed: 1", "settings")
    with pytest.raises(InputError, match="this worker has other settings than the chief"):
        check_agreement(None, lambda: "seed: 2", "settings")


def test_workers_get_the_chiefs_variables(wire):
    wire.become(chief=True)
    share_variables(None, [tf.Variable([[1.0, 2.0]]), tf.Variable(7)])
    wire.become(chief=False)
    mine = [tf.Variable([[0.0, 0.0]]), tf.Variable(0)]
    share_variables(None, mine)
    assert [one.numpy().tolist() for one in mine] == [[[1.0, 2.0]], 7]


# --- Two logical devices, which TensorFlow has to be told of before it starts: one process for all of it. ---


def settings(smoke_config, seed=1, **training):
    """Six epochs of the smoke settings, whether they improve or not; they reach 2.5 times popularity's NDCG@20."""
    training = {"max_epochs": 6, "patience": 6, "batch_size": 256, "checkpoint_seconds": 0, **training}
    return changed(smoke_config, training=training).model_copy(update={"seed": seed})


def of_bpr(config):
    config = changed(config, loss={"name": "bpr", "num_negatives": 2, "weight_decay": 1e-4}, training={"max_epochs": 1})
    return changed(config, propagation={"solver": "none"})


@pytest.fixture(scope="module")
def noise(dataset, smoke_config, tmp_path_factory):
    """NDCG@20 of the validation split of three seeds of a training on one device."""
    folder = tmp_path_factory.mktemp("seeds")
    results = [train(dataset, settings(smoke_config, seed), folder / str(seed)) for seed in (1, 2, 3)]
    return [result.valid["ndcg@20"] for result in results]


def is_within(value, noise):
    """No worse than the worst seed by more than the spread of the seeds, nor better than the best."""
    spread = max(max(noise) - min(noise), 0.01 * max(noise))
    return min(noise) - spread <= value <= max(noise) + spread


TWO_DEVICES = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import tf_hqgnn
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.training.distribution import divide, is_chief, make_strategy
from tf_hqgnn.tfx import trainer
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

folder = Path(sys.argv[1])
dataset = SplitDataset.load(folder / "data")
configs = {name: Config.load(folder / f"{name}.yaml") for name in ("softmax", "bpr", "odd", "infinite", "lightgcn")}
answers = {}

strategy = make_strategy("mirrored")
whole = tf.data.Dataset.from_tensors({"user_index": tf.range(6), "is_positive": tf.reshape(tf.range(36), [6, 6])})
divided = next(iter(divide(whole.repeat(), strategy, 6)))
parts = [strategy.experimental_local_results(divided[name]) for name in ("user_index", "is_positive")]
answers["parts"] = [[part.numpy().tolist() for part in values] for values in parts]
answers["replicas"], answers["chief"] = strategy.num_replicas_in_sync, is_chief(strategy)

train(dataset, configs["bpr"], folder / "bpr")
train(dataset, configs["lightgcn"], folder / "lightgcn")
for name, kind in (("odd", InputError), ("infinite", DivergenceError)):
    try:
        train(dataset, configs[name], folder / name)
    except kind as error:
        answers[name] = str(error)

# The trainer's own train(), on a dataset that needn't come through TFX's Transform.
trainer.rebuild_dataset = lambda fn_args: dataset
custom = {"config": configs["softmax"].to_yaml(), "max_epochs": 0, "model_store": ""}
trainer.run_fn(
    SimpleNamespace(
        custom_config=custom,
        model_run_dir=str(folder / "model_run"),
        serving_model_dir=str(folder / "model" / "Format-Serving"),
    )
)
(folder / "answers.json").write_text(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def two_devices(dataset, smoke_config, tmp_path_factory, run_command):
    folder = tmp_path_factory.mktemp("two_devices")
    dataset.save(folder / "data")
    mirrored = settings(smoke_config, strategy="mirrored")
    bpr = of_bpr(mirrored)
    configs = {
        "softmax": mirrored,
        "bpr": bpr,
        "lightgcn": changed(bpr, model={"encoder": "lightgcn", "num_layers": 1}),
        "odd": changed(mirrored, training={"batch_size": 255}),
        "infinite": changed(mirrored, training={"learning_rate": 1e38}),
    }
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(config.to_yaml())
    done = run_command.run(["python", "-c", TWO_DEVICES, folder])
    assert done.code == 0, done.err
    return folder, json.loads((folder / "answers.json").read_text())


@pytest.mark.engines
def test_each_device_gets_its_part_of_a_batch(two_devices):
    _, answers = two_devices
    assert (answers["replicas"], answers["chief"]) == (2, True)
    users, positives = answers["parts"]
    assert users == [[0, 1, 2], [3, 4, 5]]
    blocks = np.arange(36).reshape(6, 6)
    assert positives == [blocks[:3, :3].tolist(), blocks[3:, 3:].tolist()]


def read_history(run):
    with (run / "history.csv").open(newline="") as file:
        return {name: float(value) for name, value in next(csv.DictReader(file)).items()}


@pytest.mark.engines
@pytest.mark.parametrize("name", ["bpr", "lightgcn"])
def test_two_devices_learn_the_rows_of_one_where_pairs_are_independent(two_devices, dataset, tmp_path, name):
    folder, _ = two_devices
    config = changed(Config.load(folder / f"{name}.yaml"), training={"strategy": "none"})
    train(dataset, config, tmp_path / "run")
    alone, together = (read_arrays(path / "embeddings.npz", cure="") for path in (tmp_path / "run", folder / name))
    for side in ("user", "item"):
        # Sums in another order; Adam divides by their size, so that tiny gradients may differ more.
        np.testing.assert_allclose(together[side], alone[side], atol=2e-4)
        assert np.mean(np.abs(together[side] - alone[side])) < 1e-6
    # Adam takes the same steps whatever the loss is multiplied by.
    losses = [read_history(path)["loss"] for path in (tmp_path / "run", folder / name)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.engines
def test_the_tfx_trainer_trains_on_two_devices_within_the_noise_of_seeds(two_devices, noise):
    folder, _ = two_devices
    result = json.loads((folder / "model_run" / "run" / "metrics.json").read_text())
    assert result["epochs"] == 6
    assert is_within(result["valid"]["ndcg@20"], noise), (result["valid"]["ndcg@20"], noise)
    assert (folder / "model" / "Format-Serving" / "saved_model.pb").is_file()


@pytest.mark.engines
def test_a_batch_that_has_no_equal_parts_is_refused(two_devices):
    _, answers = two_devices
    assert "a batch of 255 interactions can't be divided among 2 replicas" in answers["odd"]
    assert "set training.batch_size=254, or another multiple of 2" in answers["odd"]


@pytest.mark.engines
def test_divergence_on_two_devices_stops_with_the_step(two_devices):
    _, answers = two_devices
    assert re.match(r"the loss became NaN or infinite at step [1-9]", answers["infinite"])


# --- A cluster of two processes on loopback. ---

# The command line; a worker may be told to end itself once an epoch is over, as Kubernetes would, by SIGTERM.
WORKER = """
import os, signal, sys
from tf_hqgnn.cli import commands as cli
from tf_hqgnn.training import callbacks
die_at = int(sys.argv.pop(1))
go_on = callbacks.Validation.on_epoch_end
def die(self, epoch, logs=None):
    go_on(self, epoch, logs)
    if epoch + 1 == die_at:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
callbacks.Validation.on_epoch_end = die
cli.main()
"""


def run_cluster(arguments, outs, die_at=(0, 0)):
    """[(exit code, standard output, standard error)] of both workers."""
    sockets = [socket.socket() for _ in outs]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    workers = []
    try:
        for index, (out, die) in enumerate(zip(outs, die_at)):
            command = [sys.executable, "-c", textwrap.dedent(WORKER), str(die), "train", *arguments, "--out", str(out)]
            environ = os.environ | tf_config(cluster, index=index)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            workers.append(subprocess.Popen(command, env=environ, **pipes))
        texts = [worker.communicate(timeout=DEADLINE) for worker in workers]
        return [(worker.returncode, *text) for worker, text in zip(workers, texts)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="module")
def restarted(log_path, smoke_config, tmp_path_factory):
    """A training whose worker 1 is killed after the second of six epochs, and both workers' second start."""
    folder = tmp_path_factory.mktemp("cluster")
    config = changed(settings(smoke_config, strategy="multi_worker"), data={"path": str(log_path)})
    (folder / "config.yaml").write_text(config.to_yaml())
    outs = [folder / "chief" / "run", folder / "worker" / "run"]
    arguments = [str(folder / "config.yaml"), "--resume"]
    killed = run_cluster(arguments, outs, die_at=(0, 2))
    left = sorted(path.name for path in (folder / "chief" / "run.partial" / "checkpoints").iterdir())
    return folder, killed, left, run_cluster(arguments, outs)


@pytest.mark.engines
def test_a_lost_worker_ends_the_other_with_words_and_a_checkpoint(restarted):
    _, killed, left, _ = restarted
    assert [code for code, _, _ in killed] == [1, -signal.SIGTERM]
    assert "tf-hqgnn: another worker of the cluster is gone, and this one ends, too; start all of them" in killed[0][2]
    # Of the second epoch, too, if the chief had written it by the time the worker was gone; then the first goes.
    assert left in (["epoch-00001"], ["epoch-00001", "epoch-00002"], ["epoch-00002"])


@pytest.mark.engines
def test_a_restarted_cluster_goes_on_to_metrics_within_the_noise_of_seeds(restarted, noise):
    folder, _, left, again = restarted
    assert [code for code, _, _ in again] == [0, 0], again
    done = int(left[-1].removeprefix("epoch-"))
    assert f"epoch {done + 1}/6" in again[0][2]
    assert f"epoch {done}/6" not in again[0][2]
    result = json.loads(again[0][1])
    assert (result["run_dir"], result["epochs"]) == (str(folder / "chief" / "run"), 6)
    assert is_within(result["valid"]["ndcg@20"], noise), (result["valid"]["ndcg@20"], noise)


@pytest.mark.engines
def test_only_the_chief_writes(restarted):
    folder, _, _, again = restarted
    assert (folder / "chief" / "run" / "metrics.json").is_file()
    assert not (folder / "worker").exists()
    # Nor does the other print a result, or a progress of its own.
    assert again[1][1] == ""
    assert "epoch" not in again[1][2]
