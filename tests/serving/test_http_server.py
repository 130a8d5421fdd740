"""The REST port against clients that are slow, many, large or strange; sockets and http.client are the clients."""

import asyncio
import contextlib
import gzip
import http.client
import json
import logging
import socket
import threading
import time
import zlib

import pytest

from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.http_connection import Timeouts
from tf_hqgnn.serving.http_message import Response
from tf_hqgnn.serving.http_server import HttpServer

LONG = Timeouts(idle=600, head=600, body=600, answer=600, linger=600)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF = b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx"


class Echo:
    """Answers with the method, the path and the length of the body; /wait waits for `gate`."""

    max_body_bytes = 1 << 20

    def __init__(self):
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.refused = []

    def check(self, head):
        pass

    async def answer(self, head, body):
        if head.path == "/wait":
            self.begun.release()
            await asyncio.to_thread(self.gate.wait, 60)
        if head.path == "/large":
            return Response(200, b"x" * 50_000_000)
        return Response(200, json.dumps([head.method, head.path, len(body)]).encode())

    def refuse(self, head, error):
        self.refused.append((None if head is None else head.path, error.status))
        return Response(error.status, json.dumps({"error": error.message}).encode())


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def start(timeouts=LONG, connections=1000, budget=None):
            application = Echo()
            server = HttpServer(["127.0.0.1"], 0, connections, budget or ByteBudget(1 << 30), timeouts)
            server.start(application)
            stack.callback(lambda: server.stop(time.monotonic()))
            stack.callback(application.gate.set)
            return server, application

        yield start


@pytest.fixture
def connect():
    with contextlib.ExitStack() as stack:

        def connect(server, content=b""):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            client.sendall(content)
            return client

        yield connect


def ask(server, path="/", body=None, method="GET"):
    """(status, answer) over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def is_refused(server):
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def rest_of(client):
    """All that the server sends until it closes; a reset fails."""
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def test_half_sent_requests_keep_nobody_waiting_and_leave_without_a_word(start, connect, caplog, eventually):
    server, application = start()
    clients = [connect(server, HALF) for _ in range(256)]
    clients += [connect(server, b"POST / HTTP/1.1\r\nHo") for _ in range(100)]
    with caplog.at_level(logging.DEBUG, "tf_hqgnn"):
        assert ask(server, "/a", b"xyz", "POST") == (200, ["POST", "/a", 3])
        for number, client in enumerate(clients):
            if number % 2:
                # A reset in place of an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        eventually(lambda: not server.open_connections, "all connections are forgotten")
    assert application.refused == []
    assert caplog.records == []


@pytest.mark.parametrize(
    ("late", "content", "message"),
    [
        ("head", b"GET / HTTP/1.1\r\nHos", "headers of the request didn't arrive within 0.05 s"),
        ("body", HALF, "body of the request didn't arrive within 0.05 s"),
        ("body", CHUNKED + b"3\r\nabc\r\n", "body of the request"),
    ],
)
def test_what_arrives_too_slowly_is_408(start, connect, late, content, message):
    server, _ = start(Timeouts(**{**vars(LONG), late: 0.05}))
    answer = rest_of(connect(server, content))
    assert status_of(answer) == 408
    assert b"Connection: close" in answer
    assert message in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_a_connection_without_a_request_is_closed(start, connect):
    server, application = start(Timeouts(**{**vars(LONG), "head": 0.05, "idle": 0.05}))
    assert rest_of(connect(server)) == b""
    client = connect(server, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Connection: close" not in (answer := rest_of(client))
    assert status_of(answer) == 200
    assert application.refused == []


def test_beyond_the_cap_the_connection_that_waits_longest_goes(start, connect, caplog, eventually):
    budget = ByteBudget(1000)
    server, application = start(connections=4, budget=budget)
    working = connect(server, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert application.begun.acquire(timeout=60)
    half = connect(server, HALF)
    eventually(lambda: budget.taken == 1, "half a request has arrived")
    idle = [connect(server) for _ in range(20)]
    # The half-sent request was first to go, and is told so; those that had sent nothing are closed.
    assert status_of(rest_of(half)) == 503
    for client in idle[:-3]:
        assert rest_of(client) == b""
    assert ask(server, "/new") == (200, ["GET", "/new", 0])
    application.gate.set()
    assert status_of(working.recv(1 << 16)) == 200
    # However many there are, the log has a line.
    assert len(caplog.records) == 1


def test_no_descriptor_left_is_one_line_of_log_and_passes(start, caplog, monkeypatch):
    server, _ = start()
    accept = socket.socket.accept
    failures = iter([OSError(24, "Too many open files")] * 20)

    def full(listener):
        for failure in failures:
            raise failure
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", full)
    assert ask(server) == (200, ["GET", "/", 0])
    assert [record.getMessage() for record in caplog.records] == ["REST can't take a connection: Too many open files"]


def test_bodies_in_flight_are_limited_in_total_and_the_largest_half_goes_first(start, connect, eventually):
    budget = ByteBudget(1_000_000)
    server, application = start(budget=budget)
    clients = []
    for _ in range(50):
        clients.append(connect(server, b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            clients[-1].sendall(b"x" * 300_000)
        assert budget.taken <= 1_000_000
    eventually(lambda: len(application.refused) >= 46, "most are gone")
    eventually(lambda: budget.taken > 600_000, "the others stay")
    assert {status for _, status in application.refused} == {503}
    assert ask(server, "/a", b"x" * 100_000, "POST") == (200, ["POST", "/a", 100_000])
    for client in clients:
        client.close()
    eventually(lambda: budget.taken == 0, "all bytes are given back")


def test_answers_that_nobody_takes_are_limited_too(start, connect, eventually):
    budget = ByteBudget(120_000_000)
    server, _ = start(Timeouts(**{**vars(LONG), "answer": 0.5}), budget=budget)
    for _ in range(10):
        connect(server, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    assert ask(server, "/a") == (200, ["GET", "/a", 0])
    assert budget.taken <= 120_000_000
    eventually(lambda: budget.taken == 0, "those who take nothing are left")


def test_a_flood_of_tiny_chunks_is_refused(start, connect):
    server, _ = start()
    client = connect(server, CHUNKED + b"1\r\na\r\n" * 2000)
    client.shutdown(socket.SHUT_WR)
    answer = rest_of(client)
    assert status_of(answer) == 400
    assert b"chunks of less than 64 bytes" in answer


def test_an_answer_reaches_those_who_still_send(start, connect):
    """Closing at once would send a reset, and the client would never see why it was refused."""
    server, application = start()
    size = application.max_body_bytes * 8
    client = connect(server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    client.sendall(b"x" * size)
    client.shutdown(socket.SHUT_WR)
    answer = rest_of(client)
    assert status_of(answer) == 400
    assert b"larger than 1048576 bytes" in answer


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close", False),
        ("1.1", "Connection: TE, Close", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive", True),
        ("1.0", "Connection: Keep-Alive", True),
    ],
)
def test_a_connection_stays_open_as_its_client_wants(start, connect, version, header, stays):
    server, _ = start()
    request = f"GET /a HTTP/{version}\r\nHost: a\r\n{header + chr(13) + chr(10) if header else ''}\r\n".encode()
    # Two requests at once: the second is answered only where the connection stays.
    client = connect(server, request * 2)
    client.shutdown(socket.SHUT_WR)
    answers = rest_of(client)
    assert answers.count(b'["GET", "/a", 0]') == 1 + stays
    assert (b"Connection: close" in answers) is not stays
    assert (b"Connection: keep-alive" in answers) is (stays and version == "1.0")


def test_pipelined_requests_are_answered_in_order(start, connect):
    server, _ = start()
    request = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s\r\n"
    requests = [request % (n, n, b"x" * n) for n in range(50)]
    client = connect(server, b"".join(requests))
    client.shutdown(socket.SHUT_WR)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in rest_of(client).split(b"HTTP/1.1 200 OK")[1:]]
    assert [json.loads(body) for body in bodies] == [["POST", f"/{n}", n] for n in range(50)]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"f" * 30 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_400_in_json_and_the_end(start, connect, request_bytes):
    server, _ = start()
    client = connect(server, request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    answer = rest_of(client)
    assert status_of(answer) == 400
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
    assert answer.count(b"HTTP/1.1 400") + answer.count(b"HTTP/1.1 200") == 1


def test_stop_answers_what_has_arrived_and_the_rest_does_not_hold_it(start, connect, eventually):
    server, application = start()
    working = connect(server, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert application.begun.acquire(timeout=60)
    half, idle = connect(server, HALF), connect(server)
    stopping = threading.Thread(target=server.stop, args=(time.monotonic() + 600,))
    stopping.start()
    eventually(lambda: is_refused(server), "nobody gets in any more")
    application.gate.set()
    answer = rest_of(working)
    assert status_of(answer) == 200
    assert b"Connection: close" in answer
    assert status_of(rest_of(half)) == 503
    assert rest_of(idle) == b""
    stopping.join()


def test_stop_ends_at_its_deadline(start, connect):
    server, application = start()
    working = connect(server, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert application.begun.acquire(timeout=60)
    began = time.monotonic()
    server.stop(began + 0.1)
    # The work itself would go on for a minute.
    assert time.monotonic() - began < 30
    assert not application.gate.is_set()
    with contextlib.suppress(ConnectionError):
        assert rest_of(working) == b""


PLAIN = b"some text " * 1000


def same_gzip(body):
    """Without the time, so that all workers of pytest name their tests alike."""
    return gzip.compress(body, mtime=0)


def post_as(server, body, encoding="gzip"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/", body, {"Content-Encoding": encoding})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def test_bodies_may_be_gzip_of_one_member_or_several_and_sent_in_chunks(start):
    server, _ = start()
    squeezed = gzip.compress(PLAIN)
    assert post_as(server, squeezed) == (200, ["POST", "/", len(PLAIN)])
    assert post_as(server, squeezed * 3, "X-GZIP") == (200, ["POST", "/", 3 * len(PLAIN)])
    assert post_as(server, PLAIN, "identity") == (200, ["POST", "/", len(PLAIN)])
    assert post_as(server, iter([squeezed[:30], squeezed[30:31], squeezed[31:]])) == (200, ["POST", "/", len(PLAIN)])


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (PLAIN, "gzip", "the body isn't gzip, as the header Content-Encoding says it is"),
        (zlib.compress(PLAIN), "gzip", "the body isn't gzip"),
        (same_gzip(PLAIN) + b"more", "gzip", "the body isn't gzip"),
        (same_gzip(PLAIN)[:-1], "gzip", "the body is gzip that ends too early"),
        (b"", "gzip", "the body is gzip that ends too early"),
        (same_gzip(PLAIN), "br", "the body's Content-Encoding is 'br': expected gzip, or no encoding"),
        (same_gzip(same_gzip(PLAIN)), "gzip, gzip", "the body's Content-Encoding is 'gzip, gzip': expected"),
        (same_gzip(bytes(100 << 20)), "gzip", "the request is larger than 1048576 bytes: split it"),
    ],
)
def test_a_wrong_encoding_is_400(start, body, encoding, message):
    server, application = start()
    status, answer = post_as(server, body, encoding)
    assert status == 400
    assert answer["error"].startswith(message)
    assert application.refused == [("/", 400)]


def test_what_bodies_are_inflated_to_counts_for_the_bytes_that_are_held(start):
    """A request of a few bytes may not take more memory than one that is sent as it is."""
    server, _ = start(budget=ByteBudget(500_000))
    status, answer = post_as(server, gzip.compress(bytes(900_000)))
    assert (status, answer["error"][:38]) == (503, "the server holds as many bytes of requ")
