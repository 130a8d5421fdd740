"""Loopback bypasses proxies; the proxy here refuses everything, and says who came."""

import socket
import threading

import pytest

from tf_hqgnn.serving.client import Client, ServerUnavailable, is_loopback


@pytest.fixture
def proxy(monkeypatch):
    """An HTTP proxy that notes each first line it gets and closes; the environment names it."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    seen.append(connection.recv(4096).split(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield address, seen
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_loopback_is_reached_without_the_proxy(shared_server, proxy, monkeypatch, variable, host):
    address, seen = proxy
    monkeypatch.setenv(variable, address)
    with Client(f"{host}:{shared_server.grpc_port}", timeout=10) as client:
        (answer,) = client.recommend(["a user"], k=2)
    assert len(answer.item_ids) == 2
    assert seen == []


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_other_hosts_go_through_the_proxy_and_the_message_names_it(proxy, monkeypatch, variable):
    address, seen = proxy
    monkeypatch.setenv(variable, address)
    expected = (
        rf"nothing answers at far\.invalid:8500: .*variable {variable} names a proxy: .*set no_proxy=far\.invalid"
    )
    with Client("far.invalid:8500", timeout=3) as client, pytest.raises(ServerUnavailable, match=expected):
        client.recommend(["a user"])
    assert seen
    assert seen[0].startswith(b"CONNECT far.invalid:8500")


LOOPBACK = [
    *("localhost:8500", "LOCALHOST:1", "localhost.:1", "a.localhost:1", "127.0.0.1:8500", "127.9.9.9:1", "[::1]:8500"),
    *(
        "::1:8500",
        "[::ffff:127.0.0.1]:1",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "dns:///localhost:1",
        "0.0.0.0:1",
        "[::]:1",
    ),
]
OTHERS = ["10.0.0.1:8500", "host:8500", "localhost.example:1", "128.0.0.1:1", "[2001:db8::1]:1", "127.0.0.1.example:1"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_addresses_of_this_machine(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", OTHERS)
def test_addresses_of_others(address):
    assert not is_loopback(address)
