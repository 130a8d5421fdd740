import contextlib
import functools
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest

from tf_hqgnn.cli.commands import main
from tf_hqgnn.serving.addresses import has_ipv6
from tf_hqgnn.serving.client import Client
from tf_hqgnn.serving.server import Server, run_until_signalled, serve
from tf_hqgnn.types import InputError


def client_of(server, **options):
    return Client(f"127.0.0.1:{server.grpc_port}", **options)


def test_many_clients_at_once_get_their_own_answers(server):
    def ask(number):
        users = [f"user {number}"] * (1 + number % 5)
        answers = client.recommend(users, k=1 + number % 7, exclude=["100-0"] if number % 2 else ())
        return all(
            len(answer.item_ids) == 1 + number % 7 - number % 2 and answer.user_id == f"user {number}"
            for answer in answers
        ) and len(answers) == len(users)

    with client_of(server) as client, futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(300)))


def test_a_swap_under_load_loses_no_request_and_mixes_no_answer(server, publish, eventually):
    stop = threading.Event()
    counts = {100: 0, 200: 0}

    def ask():
        with client_of(server, timeout=60) as client:
            while not stop.is_set():
                [answer] = client.recommend(["a"], k=5)
                mark = int(answer.scores[0])
                assert answer.item_ids == tuple(f"{mark}-{rank}" for rank in range(5))
                counts[mark] += 1

    with futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            eventually(lambda: counts[100] > 20, "the old version answers")
            publish(2, mark=200)
            eventually(lambda: counts[200] > 20, "the new version answers")
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert server.manager.served() == {"hqgnn": 2}


def test_stop_lets_a_request_under_way_end(export_dir, eventually):
    server = Server(export_dir, grpc_port=0, rest_port=0, grace_seconds=60).start()
    with client_of(server, timeout=60) as client, futures.ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client.predict, "spin", {"steps": np.array(100_000, np.int64)})
        eventually(lambda: server.manager.in_flight("hqgnn") == 1 or answer.done(), "the request is under way")
        stopping = pool.submit(server.stop)
        assert answer.result()["steps"] == 100_000
        stopping.result()
    server.wait()
    server.stop()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("model", "rest", "grpc", "batch"))
    ]


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_port_in_use_is_explained(export_dir, kind):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"grpc_port": 0, "rest_port": 0, f"{kind}_port": taken.getsockname()[1]}
        with pytest.raises(InputError, match=f"choose another port with --{kind}-port"):
            Server(export_dir, **ports).start()


def answers_of(server):
    """Which addresses of this machine answer over which protocol."""
    found = set()
    for address in ("127.0.0.1", "::1"):
        for port in (server.grpc_port, server.rest_port):
            try:
                socket.create_connection((address, port), timeout=60).close()
            except OSError:
                continue
            found.add((address, port))
    return found


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"])
def test_both_ports_are_open_on_the_same_addresses(export_dir, monkeypatch, host):
    """The hosts file of most machines has localhost stand for ::1 and 127.0.0.1."""
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    original = socket.getaddrinfo

    def both(name, *arguments, **options):
        if name != "localhost":
            return original(name, *arguments, **options)
        return [entry for one in ("::1", "127.0.0.1") for entry in original(one, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with Server(export_dir, host=host, grpc_port=0, rest_port=0) as server:
        found = answers_of(server)
        ports = {server.grpc_port, server.rest_port}
    # Beyond the loopback interface gRPC listens on both families, whichever is named.
    wanted = {"127.0.0.1": ["127.0.0.1"], "::1": ["::1"]}.get(host, ["127.0.0.1", "::1"])
    assert found == {(address, port) for address in wanted for port in ports}


@pytest.mark.parametrize("off", ["grpc_port", "rest_port"])
def test_a_port_can_be_off(export_dir, off):
    on = "rest_port" if off == "grpc_port" else "grpc_port"
    with Server(export_dir, **{off: None, on: 0}) as server:
        assert getattr(server, off) is None
        assert ("REST" if off == "rest_port" else "gRPC") not in str(server)
        socket.create_connection(("127.0.0.1", getattr(server, on)), timeout=60).close()


def test_on_the_command_line_port_0_is_off_as_in_tf_serving(export_dir, monkeypatch, capsys):
    served = []
    monkeypatch.setattr("tf_hqgnn.serving.server.Server.start", lambda server: served.append(server) or stop())
    stop = functools.partial(signal.raise_signal, signal.SIGTERM)

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["tf-hqgnn", "serve", str(export_dir), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    assert run("--grpc-port", "0", "--allowed-hosts", "a,b", "--grace-seconds", "3") == 0
    assert run("--rest-port", "0") == 0
    assert [(server.grpc_port, server.rest_port) for server in served] == [(None, 8501), (8500, None)]
    assert served[0]._hosts.names == {"a", "b"}
    assert [server.grace_seconds for server in served] == [3, 8]
    assert run("--grpc-port", "0", "--rest-port", "0") == 2
    assert "both ports are off (0)" in capsys.readouterr().err


def test_an_unknown_host_is_explained(export_dir):
    with pytest.raises(InputError, match=r"host\.invalid"):
        Server(export_dir, host="host.invalid", grpc_port=0, rest_port=0).start()


def test_a_directory_without_models_is_explained(tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        Server(tmp_path)


def test_no_model_that_loads_is_explained(export_dir):
    (export_dir / "hqgnn" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match=r"no model can be served: hqgnn version 1: .* has no graph tagged"):
        Server(export_dir, grpc_port=0, rest_port=0, poll_seconds=0.02).start()


def test_settings_out_of_range_are_explained(export_dir):
    with pytest.raises(InputError, match="expected poll_seconds > 0 and grace_seconds >= 0, got 0 and 8"):
        Server(export_dir, poll_seconds=0)


def test_a_message_beyond_the_limit_is_refused(server):
    with client_of(server) as client, pytest.raises(Exception, match="larger than max") as caught:
        client.recommend(["a" * (65 << 20)])
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_when_it_is_ready_and_ends_on_a_signal(export_dir, capfd, eventually, number):
    printed = []

    def stop_when_ready():
        eventually(lambda: printed.append(capfd.readouterr().out) or "\n" in "".join(printed), "the server is ready")
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    stopper = threading.Thread(target=stop_when_ready)
    stopper.start()
    serve(export_dir, grpc_port=0, rest_port=0)
    stopper.join()
    assert signal.getsignal(number) is before
    assert re.fullmatch(
        rf"Serving hqgnn version 1 from {re.escape(str(export_dir))}: gRPC 127\.0\.0\.1:\d+, REST "
        r"http://127\.0\.0\.1:\d+/v1/models/hqgnn\n",
        "".join(printed),
    )


def test_serve_takes_tf_servings_files(export_dir, tmp_path, monkeypatch):
    """Each file reaches the part it is for; `serve` itself is ended before it begins."""
    files = {
        "model_config_file": f'model_config_list {{ config {{ name: "m" base_path: "{export_dir}/hqgnn" }} }}',
        "batching_parameters_file": "max_batch_size { value: 7 }",
        "monitoring_config_file": 'prometheus_config { enable: true path: "/m" }',
        "ssl_config_file": 'server_key: "-----BEGIN X" server_cert: "-----BEGIN Y"',
    }
    paths = {}
    for name, text in files.items():
        paths[name] = tmp_path / name
        paths[name].write_text(text)
    started = []

    def start(server):
        started.append(server)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Server, "start", start)
    serve(grpc_port=0, rest_port=0, **paths)
    [server] = started
    assert list(server.manager.known()) == ["m"]
    assert server.batching.max_batch_size == 7
    assert server.metrics_path == "/m"
    assert server.tls_keys.server_cert == "-----BEGIN Y"


def test_a_signal_while_models_load_ends_it(export_dir, monkeypatch):
    monkeypatch.setattr(Server, "start", lambda _self: signal.raise_signal(signal.SIGTERM))
    serve(export_dir, grpc_port=0, rest_port=0)


@contextlib.contextmanager
def server_process(export_dir, grpc_port=0):
    code = f"from tf_hqgnn.serving.server import serve; serve({str(export_dir)!r}, grpc_port={grpc_port}, rest_port=0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert "Serving hqgnn" in line, process.stderr.read()
        yield process, int(re.search(r"gRPC 127\.0\.0\.1:(\d+)", line)[1])
    finally:
        process.kill()
        process.communicate()


def test_killed_and_started_again_it_answers_the_same_and_ends_on_ctrl_c(export_dir, publish):
    with server_process(export_dir) as (process, port):
        with Client(f"127.0.0.1:{port}") as client:
            before = client.recommend(["a", "new"], k=4, exclude=["100-2"])
        process.kill()
    (publish(2, mark=200) / "saved_model.pb").write_bytes(b"broken")
    with server_process(export_dir, port) as (process, again):
        assert again == port
        with Client(f"127.0.0.1:{port}") as client:
            after = client.recommend(["a", "new"], k=4, exclude=["100-2"])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert "hqgnn version 2: not served: DATA_LOSS" in errors
    assert [(a.item_ids, a.known_user, a.scores.tolist()) for a in before] == [
        (a.item_ids, a.known_user, a.scores.tolist()) for a in after
    ]


class Quick:
    """What starts and stops at once."""

    def start(self):
        pass

    stop = start


def test_a_signal_that_does_not_wake_the_main_thread_ends_it(monkeypatch):
    """As one does that comes after Python's last look for signals, and before the wait."""
    printed = threading.Event()

    class Output(io.StringIO):
        def flush(self):
            printed.set()

    def stuck(*_):
        raise AssertionError("it waits for ever")

    def stop():
        printed.wait()
        time.sleep(0.2)
        # Another thread takes it: the main thread's wait goes on.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    monkeypatch.setattr(sys, "stdout", Output())
    before = signal.signal(signal.SIGALRM, stuck)
    stopper = threading.Thread(target=stop)
    signal.alarm(20)
    try:
        stopper.start()
        run_until_signalled(Quick())
        stopper.join()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
