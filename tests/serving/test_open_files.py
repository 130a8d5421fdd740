import resource
import socket

import pytest

from tf_hqgnn.serving import open_files
from tf_hqgnn.serving.own_sockets import close_connections, count_connections, refuse_connections


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1 << 20, 1024), (resource.RLIM_INFINITY, 1024), (64, 4), (0, 4)],
)
def test_the_connections_of_a_port_follow_the_limit_of_open_files(monkeypatch, limit, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert open_files.connections_per_port() == expected


def test_both_ports_full_leave_descriptors_for_models(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 400))
    used = len(open_files.descriptors())
    assert 0 <= 400 - used - 2 * open_files.connections_per_port() - 64 < 2


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_connections_are_counted_at_their_servers_end_and_closed(listener):
    listening, port = listener
    assert count_connections(port) == 0
    with connected(port) as client, listening.accept()[0]:
        assert count_connections(port) == 1
        close_connections(port)
        assert client.recv(1) == b""
    assert count_connections(port) == 0
    # The listener still is one.
    with connected(port):
        pass


def test_nothing_is_left_open_by_looking(listener):
    before = sorted(open_files.descriptors())
    for _ in range(20):
        count_connections(listener[1])
    assert sorted(open_files.descriptors()) == before


def test_a_port_that_refuses_lets_nobody_in_and_keeps_those_inside(listener):
    listening, port = listener
    with connected(port) as client, listening.accept()[0] as accepted:
        refuse_connections(port)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", port), timeout=0.1)
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
