"""Canary, full and back with serving/label.py, against servers with TF Serving's rules."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import label
import pytest
from google.protobuf import text_format
from model_service import ModelService
from tensorflow_serving.config import model_server_config_pb2

CONFIG = """# Kept.
# Kept, too.
model_config_list {
  config {
    name: "hqgnn" base_path: "/models/hqgnn" model_platform: "tensorflow"
    model_version_policy { specific { versions: 6 } }
    version_labels { key: "stable" value: 6 }
    version_labels { key: "canary" value: 6 }
  }
  config {
    name: "ranker" base_path: "/models/ranker" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "stable" value: 1 }
  }
}
"""


def parse(text: str):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def servers():
    """Two replicas with version 6 of hqgnn and version 1 of a second model; 7, 8 and 9 are pushed."""
    both = [ModelService(parse(CONFIG), {"hqgnn": {6, 7, 8, 9}, "ranker": {1}}) for _ in range(2)]
    yield both
    for server in both:
        server.stop()


@pytest.fixture
def run(config, servers, capsys):
    """label.py with these arguments on both servers: exit code, standard output, standard error."""

    def run(*arguments: str, model: str = "hqgnn"):
        addresses = [part for server in servers for part in ("--server", server.address)]
        code = label.main([*addresses, "--config", str(config), "--model", model, *arguments])
        return code, *capsys.readouterr()

    return run


def move(name: str, version: int) -> tuple[str, ...]:
    return "--label", name, "--version", str(version)


def test_from_canary_to_full_and_back(run, servers, config):
    assert run(*move("canary", 7)) == (0, "hqgnn: canary 7, stable 6 (2 servers)\n", "")
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 7, "stable": 6}
        assert server.available("hqgnn") == {6, 7}
    assert run(*move("stable", 7))[0] == 0
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 7, "stable": 7}
        # 6 stays for a rollback.
        assert server.available("hqgnn") == {6, 7}
    assert run("--rollback") == (0, "hqgnn: canary 7, stable 6 (2 servers)\n", "")
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 7, "stable": 6}
        # A reload replaces the whole list: the other model is still in it.
        assert server.available("ranker") == {1}
    assert parse(config.read_text()) == servers[0].reloads[-1]


def test_a_rollback_is_rolled_back_by_the_next(run, servers):
    run(*move("canary", 7))
    run("--rollback")
    assert servers[1].labels["hqgnn"] == {"canary": 6, "stable": 6}
    run("--rollback")
    assert servers[1].labels["hqgnn"] == {"canary": 7, "stable": 6}


def test_a_label_moves_only_after_its_version_is_loaded_and_two_versions_stay(run, servers):
    run(*move("canary", 7))
    loading, relabelled = (entry(config) for config in servers[0].reloads)
    assert (labels(loading), versions(loading)) == ({"canary": 6, "stable": 6}, [6, 7])
    assert (labels(relabelled), versions(relabelled)) == ({"canary": 7, "stable": 6}, [6, 7])
    run(*move("stable", 7))
    run(*move("canary", 8))
    # 6, which no label names any more, went before 8 came.
    assert versions(entry(servers[0].reloads[-2])) == [7, 8]
    # A canary in place of a canary needs three for a while; then the one without a label goes.
    run(*move("canary", 9))
    assert versions(entry(servers[0].reloads[-2])) == [7, 8, 9]
    assert versions(entry(servers[0].reloads[-1])) == [7, 9]


def entry(config):
    return next(model for model in config.model_config_list.config if model.name == "hqgnn")


def labels(model) -> dict[str, int]:
    return dict(model.version_labels)


def versions(model) -> list[int]:
    return list(model.model_version_policy.specific.versions)


def test_the_head_of_the_file_stays(run, config):
    run(*move("canary", 7))
    assert config.read_text().startswith("# Kept.\n# Kept, too.\nmodel_config_list {")


def test_each_model_has_its_own_rollback(run, servers):
    for server in servers:
        server.folders["ranker"].add(2)
    run(*move("canary", 7))
    run(*move("stable", 2), model="ranker")
    run("--rollback")
    assert servers[0].labels == {"hqgnn": {"canary": 6, "stable": 6}, "ranker": {"stable": 2}}
    run("--rollback", model="ranker")
    assert servers[0].labels == {"hqgnn": {"canary": 6, "stable": 6}, "ranker": {"stable": 1}}


def test_the_same_command_twice_keeps_the_rollback(run, servers):
    run(*move("canary", 7))
    assert run(*move("canary", 7))[0] == 0
    run("--rollback")
    assert servers[0].labels["hqgnn"] == {"canary": 6, "stable": 6}


def nothing_moved(servers, config):
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 6, "stable": 6}
        assert server.available("hqgnn") == {6}
    assert config.read_text() == CONFIG


def test_a_version_that_is_on_one_server_only(run, servers, config):
    servers[1].folders["hqgnn"] = {6}
    code, _, error = run(*move("canary", 7), "--timeout", "0.5")
    assert code == 1
    assert f"{servers[1].address}: hqgnn version 7 isn't AVAILABLE in time; is it in the model's folder" in error
    assert "no label was moved" in error
    nothing_moved(servers, config)


def test_a_version_that_fails_to_load(run, servers, config):
    servers[1].broken.add(7)
    code, _, error = run(*move("canary", 7))
    assert code == 1
    assert "version 7 can't be loaded: Can't parse saved_model.pb; push it anew under another version" in error
    nothing_moved(servers, config)


def test_a_server_that_refuses_the_label_puts_all_back(run, servers, config):
    servers[1].refuse_labels = True
    code, _, error = run(*move("canary", 7))
    assert code == 1
    assert f"{servers[1].address}: reload failed, code 9: Request to assign label to version 7" in error
    assert "no label was moved" in error
    nothing_moved(servers, config)


def test_a_server_that_is_gone(run, servers, config):
    servers[1].stop()
    code, _, error = run(*move("canary", 7))
    assert code == 1
    assert f"{servers[1].address}: reload failed, UNAVAILABLE" in error
    assert "could NOT be put back everywhere" in error
    nothing_moved(servers[:1], config)


def test_labels_that_moved_stay_where_a_version_can_not_be_unloaded(run, servers, config):
    run(*move("canary", 7))
    servers[1].refuse_unload = True
    code, _, error = run(*move("canary", 8))
    assert code == 1
    assert f"{servers[1].address}: reload failed, INTERNAL: still in use\nthe labels were moved, but" in error
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 8, "stable": 6}
    assert labels(entry(parse(config.read_text()))) == {"canary": 8, "stable": 6}


def test_offline_prepares_the_file_for_servers_that_will_start(config, capsys):
    arguments = ["--offline", "--config", str(config), "--model", "ranker", *move("stable", 1700000000)]
    assert label.main(arguments) == 0
    assert capsys.readouterr().out == "ranker: stable 1700000000 (in the file only)\n"
    (changed,) = (model for model in parse(config.read_text()).model_config_list.config if model.name == "ranker")
    assert labels(changed) == {"stable": 1700000000}
    assert 1700000000 in versions(changed)


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        (
            None,
            ["--model", "hqgnn", "--rollback"],
            "No such file or directory; name the servers' model config file with --config",
        ),
        ("models: 1", ["--model", "hqgnn", "--rollback"], "not a ModelServerConfig in text format"),
        ("", ["--model", "hqgnn", "--rollback"], "has no model, expected model_config_list"),
        (CONFIG, ["--model", "x", "--rollback"], "the config has no model 'x', only hqgnn, ranker"),
        (CONFIG, ["--model", "hqgnn", "--rollback"], "no label has been moved yet; name a version"),
    ],
)
def test_files_that_do_not_fit(tmp_path, capsys, content, arguments, expected):
    path = tmp_path / "models.config"
    if content is not None:
        path.write_text(content)
    assert label.main(["--offline", "--config", str(path), *arguments]) == 1
    assert expected in capsys.readouterr().err


def test_nothing_to_roll_back_to_for_this_model(run):
    run(*move("canary", 7))
    code, _, error = run("--rollback", model="ranker")
    assert code == 1
    assert "has the labels of now for ranker; name a version" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--server", "a:1", "--model", "hqgnn"], "expected either --label and --version, or --rollback"),
        (["--server", "a:1", "--model", "hqgnn", "--label", "canary"], "expected either"),
        (["--server", "a:1", "--model", "hqgnn", "--rollback", "--label", "canary"], "expected either"),
        (["--server", "a:1", "--model", "hqgnn", "--label", "canary", "--version", "0"], "expected a positive number"),
        (["--server", "a:1", "--model", "hqgnn", "--label", "blue", "--version", "1"], "invalid choice: 'blue'"),
        (["--model", "hqgnn", "--rollback"], "one of the arguments --server --namespace --offline is required"),
    ],
)
def test_wrong_usage(arguments, expected, capsys):
    with pytest.raises(SystemExit) as exit:
        label.main(arguments)
    assert exit.value.code == 2
    assert expected in capsys.readouterr().err


# Pods "pod-<port>" whose port-forward is that port; the ConfigMap is patched into a file beside it.
KUBECTL = """#!{python}
import json, pathlib, sys, time
here = pathlib.Path(__file__).parent
namespace, verb, *rest = sys.argv[2:]
with open(here / "calls", "a") as calls:
    calls.write(" ".join([namespace, verb, *rest[:3]]) + "\\n")
if verb == "get":
    pods = (here / "pods").read_text().split()
    print(json.dumps({{"items": [{{"metadata": {{"name": pod}}}} for pod in pods]}}))
elif verb == "port-forward":
    port = rest[0].removeprefix("pod/pod-")
    if not port.isdigit():
        sys.exit("error: pod not found")
    print(f"Forwarding from 127.0.0.1:{{port}} -> 8500", flush=True)
    sys.stdin.read()
elif verb == "create":
    try:
        (here / "lock").touch(exist_ok=False)
    except FileExistsError:
        sys.exit(f'Error from server (AlreadyExists): configmaps "{{rest[1]}}" already exists')
elif verb == "delete":
    (here / "lock").unlink()
elif verb == "patch":
    if (here / "pods-after").exists():
        (here / "pods-after").rename(here / "pods")
    (here / "patch").write_text(rest[-1].removeprefix("--patch="))
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch, servers):
    """A folder with a kubectl that is first on the PATH and knows the servers as pods."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "kubectl"
    script.write_text(KUBECTL.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (folder / "pods").write_text(" ".join(f"pod-{server.address.rpartition(':')[2]}" for server in servers))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def in_namespace(config, *arguments: str) -> int:
    return label.main(["--namespace", "shop", "--config", str(config), "--model", "hqgnn", *arguments])


def test_all_pods_of_a_deployment_and_its_config_map(kubectl, servers, config, capsys):
    assert in_namespace(config, *move("canary", 7)) == 0
    assert capsys.readouterr().out == "hqgnn: canary 7, stable 6 (2 servers)\n"
    for server in servers:
        assert server.labels["hqgnn"] == {"canary": 7, "stable": 6}
    patch = json.loads((kubectl / "patch").read_text())
    assert patch == {"data": {"models.config": config.read_text()}}
    calls = (kubectl / "calls").read_text().splitlines()
    assert calls[0] == ("shop get pods --selector=app.kubernetes.io/name=hqgnn --field-selector=status.phase=Running")
    assert calls[-3].startswith("shop patch configmap tf-serving")
    assert calls[-1] == "shop delete configmap tf-serving-label-lock"


@pytest.mark.usefixtures("servers")
def test_a_pod_that_started_meanwhile(kubectl, config, capsys):
    (kubectl / "pods-after").write_text((kubectl / "pods").read_text() + " pod-1")
    assert in_namespace(config, *move("canary", 7)) == 1
    assert (
        "pods came or went meanwhile and may have the old labels; run the same command again" in capsys.readouterr().err
    )
    assert labels(entry(parse(config.read_text()))) == {"canary": 7, "stable": 6}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ("", "no running pod in namespace shop with app.kubernetes.io/name=hqgnn"),
        ("pod-gone", "kubectl port-forward to pod-gone: error: pod not found"),
    ],
)
def test_pods_that_can_not_be_reached(kubectl, servers, config, capsys, pods, expected):
    (kubectl / "pods").write_text(pods)
    assert in_namespace(config, *move("canary", 7)) == 1
    assert expected in capsys.readouterr().err
    nothing_moved(servers, config)


def test_a_kubectl_that_fails_or_is_not_there(kubectl, config, capsys, monkeypatch):
    (kubectl / "kubectl").write_text("#!/bin/sh\necho 'no such cluster' >&2\nexit 1\n")
    assert in_namespace(config, "--rollback", "--config", str(config)) == 1
    capsys.readouterr()
    assert in_namespace(config, *move("canary", 7)) == 1
    assert capsys.readouterr().err == "kubectl get pods: no such cluster\n"
    (kubectl / "kubectl").unlink()
    monkeypatch.setenv("PATH", str(kubectl))
    assert in_namespace(config, *move("canary", 7)) == 1
    assert "kubectl isn't on the PATH; --namespace needs it" in capsys.readouterr().err


def test_two_at_once_in_a_namespace_exclude_each_other(kubectl, servers, config, capsys):
    (kubectl / "lock").touch()
    assert in_namespace(config, *move("canary", 7)) == 1
    assert capsys.readouterr().err == (
        "another label.py is at work in namespace shop: wait until it is done, or, if it was killed: "
        "kubectl -n shop delete configmap tf-serving-label-lock\n"
    )
    nothing_moved(servers, config)
    (kubectl / "lock").unlink()
    assert in_namespace(config, *move("canary", 7)) == 0
    assert not (kubectl / "lock").exists()


@pytest.fixture
def started(config, servers):
    """A function that starts label.py as a process, and waits until it has changed the first server."""
    processes = []

    def start(*arguments):
        addresses = [part for server in servers for part in ("--server", server.address)]
        command = [sys.executable, label.__file__, *addresses, "--config", str(config), "--model", "hqgnn", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        while not servers[0].reloads:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_puts_all_back(started, servers, config, number):
    servers[1].folders["hqgnn"].discard(7)  # It waits for this version.
    process = started(*move("canary", 7))
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1] == f"interrupted by {number.name}: all servers have the labels of {config}"
    nothing_moved(servers, config)
    assert all(server.available("hqgnn") == {6} for server in servers)


def test_a_second_one_is_refused_while_the_first_is_at_work(started, run, servers):
    servers[1].folders["hqgnn"].discard(7)
    started(*move("canary", 7))
    code, _, err = run(*move("canary", 8))
    assert code == 1
    assert "another label.py is at work with this file; wait until it is done" in err


def test_after_a_kill_the_next_one_puts_the_labels_back_first(started, run, servers, config):
    servers[1].folders["hqgnn"].discard(7)
    process = started(*move("canary", 7))
    process.kill()
    process.wait()
    assert servers[0].available("hqgnn") == {6, 7}
    code, out, err = run(*move("canary", 8))
    assert (code, out) == (0, "hqgnn: canary 8, stable 6 (2 servers)\n")
    assert err == f"an earlier label.py was killed: the labels of {config} are put back first\n"
    assert all(server.available("hqgnn") == {6, 8} for server in servers)
    assert {path.name for path in config.parent.iterdir()} >= {"models.config", "models.config.previous"}
    assert not list(config.parent.glob(".*.moving"))
