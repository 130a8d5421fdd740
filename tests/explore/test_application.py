"""What the page's server answers and refuses, without a model: users and items by hand, and servers that misbehave."""

import asyncio
import json

import numpy as np
import pytest

from tf_hqgnn.explore.application import ExploreApp
from tf_hqgnn.explore.catalogue import Catalogue
from tf_hqgnn.explore.forwarder import Address, Forwarder
from tf_hqgnn.export.contents import Contents
from tf_hqgnn.serving.addresses import AllowedHosts
from tf_hqgnn.serving.http_message import Head, HttpError, Response, render
from tf_hqgnn.types import InputError

PREDICT = "/v1/models/hqgnn/versions/2:predict"


def objects(*values):
    return np.array(values, object)


CONTENTS = Contents(
    user_ids=objects("40", "4", "14", "<b>"),
    item_ids=objects("a", "b", "c", "d"),
    seen=(np.array([0, 2, 2, 3, 4]), np.array([0, 2, 1, 3], np.int32)),
    item_popularity=np.array([1, 5, 5, 2], np.float32),
    item_categories=objects("film|drama", "", "film", "book"),
    item_available=None,
    item_titles=objects("Toy Story", "Story of a Toy", "Amélie", "</script>"),
    known_users=np.array([True, True, True, False]),
)


class Newest:
    """A catalogue that is the newest one, and says how often it looked."""

    model_names = ("hqgnn",)
    looks = 0

    def __init__(self):
        self.current = Catalogue(CONTENTS)

    def refresh(self):
        self.looks += 1


class Models:
    """Answers with the path that it was asked for."""

    max_body_bytes = 1000

    def check(self, head):
        raise AssertionError("the page checks by itself")

    async def answer(self, head, body):
        return Response(200, json.dumps([head.method, head.path, body.decode()]).encode())

    def refuse(self, head, error):
        return Response(error.status, b"refused by the models")


@pytest.fixture
def newest():
    return Newest()


@pytest.fixture
def app(newest):
    return ExploreApp(newest, Models(), AllowedHosts(), None, "export")


def answer(app, path, document=None, method=None):
    body = b"" if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
    head = Head(method or ("GET" if document is None else "POST"), path, "localhost", {})
    return asyncio.run(app.answer(head, body))


def ask(app, path, document=None):
    response = answer(app, f"/explore/api/{path}", document)
    assert response.status == 200, response.body
    return json.loads(response.body)


def test_about_looks_for_a_newer_version_and_counts_categories(app, newest):
    assert ask(app, "about") == {
        "models": ["hqgnn"],
        "server": None,
        "export": "export",
        "num_users": 4,
        "num_items": 4,
        "categories": ["film", "drama", "book"],
        "has_titles": True,
    }
    assert newest.looks == 1


@pytest.mark.parametrize(
    ("text", "found"), [("4", ["4", "40", "14"]), ("14", ["14"]), ("<B>", ["<b>"]), ("5", []), (" ", [])]
)
def test_users_are_found_by_parts_of_their_ids(app, text, found):
    assert [user["user_id"] for user in ask(app, "users", {"text": text})["users"]] == found


def test_a_history_is_told_by_popularity_and_an_unknown_user_has_none(app):
    user = ask(app, "user", {"user_id": "40"})
    assert (user["num_taken"], user["known_user"]) == (2, True)
    assert [item["title"] for item in user["taken"]] == ["Amélie", "Toy Story"]
    assert user["taken"][1] == {"item_id": "a", "title": "Toy Story", "category": "film, drama", "popularity_rank": 4}
    assert ask(app, "user", {"user_id": "9"}) == {"user_id": "9", "known_user": False, "num_taken": 0, "taken": []}
    assert ask(app, "user", {"user_id": "<b>"})["known_user"] is False


def test_a_random_user_has_a_history(app):
    assert {ask(app, "user", {})["user_id"] for _ in range(50)} == {"40", "14", "<b>"}


@pytest.mark.parametrize(
    ("text", "found"),
    [("toy", ["a", "b"]), ("story toy", ["b", "a"]), ("AMELIE", ["c"]), ("script", ["d"]), ("d", ["d"]), ("x", [])],
)
def test_items_are_found_by_words_of_their_titles_and_by_ids(app, text, found):
    assert [item["item_id"] for item in ask(app, "items", {"text": text})["items"]] == found


def test_items_are_looked_up_by_their_ids(app):
    items = ask(app, "items", {"item_ids": ["d", "unknown", "\ud800"]})["items"]
    assert [item["title"] for item in items] == ["</script>"]


@pytest.mark.parametrize(
    ("path", "document", "message"),
    [
        ("users", {"text": 4}, "expected text, a string of at most 500 characters"),
        ("users", {"text": "a" * 501}, "expected text, a string of at most 500 characters"),
        ("users", {"text": "4", "limit": 51}, "expected limit, a whole number from 1 to 50"),
        ("users", {"text": "4", "limit": True}, "expected limit, a whole number from 1 to 50"),
        ("items", {"item_ids": "a"}, "expected item_ids, a list of at most 2000 strings"),
        ("items", {"item_ids": ["a"] * 2001}, "expected item_ids, a list of at most 2000 strings"),
        ("items", {"item_ids": [None]}, "expected item_ids, a list of at most 2000 strings"),
        ("user", {"user_id": None}, "expected user_id, a string of at most 500 characters"),
        ("user", b"[" * 100_000, "expected a JSON object"),
        ("user", b"[]", "expected a JSON object"),
        ("user", b" " * 1_048_577, "the question has 1048577 bytes: at most 1048576 are read"),
    ],
)
def test_wrong_questions_are_explained(app, path, document, message):
    response = answer(app, f"/explore/api/{path}", document)
    assert response.status == 400
    assert json.loads(response.body)["error"].startswith(message)


@pytest.mark.parametrize("path", ["/explore/api/x", "/explore/../cli/commands.py", "/explore/__init__.py"])
def test_nothing_but_the_page_is_handed_out(app, path):
    assert answer(app, path).status == 404


@pytest.mark.parametrize(
    "path", ["/explore", "/explore/main.js", "/explore/base.css", "/explore/icon.svg", "/explore/api/about"]
)
def test_every_answer_has_the_policy(app, path):
    response = answer(app, path)
    text = render(response, None, close=True).decode()
    assert response.status == 200
    assert "\r\nX-Content-Type-Options: nosniff\r\n" in text
    (policy,) = [line for line in text.split("\r\n") if line.startswith("Content-Security-Policy: ")]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in policy


def test_the_page_names_no_other_host(app):
    text = answer(app, "/explore").body.decode()
    assert "//" not in text.replace("<!doctype html>", "")


def test_the_root_leads_to_the_page_and_models_get_the_rest(app):
    response = answer(app, "/")
    assert (response.status, response.headers["Location"]) == (302, "/explore")
    assert json.loads(answer(app, PREDICT, {}).body) == ["POST", PREDICT, "{}"]
    assert app.refuse(Head("POST", PREDICT, None, {}), HttpError(400, "x")).body == b"refused by the models"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (Head("GET", "/explore", "evil.example", {}), 403),
        (Head("POST", "/explore/api/user", "localhost", {"origin": "http://evil.example"}), 415),
        (Head("POST", "/explore/api/user", "localhost", {"content-type": "text/plain"}), 415),
    ],
)
def test_pages_of_others_are_refused(app, head, status):
    with pytest.raises(HttpError) as caught:
        app.check(head)
    assert caught.value.status == status
    assert app.refuse(head, caught.value).status == status


@pytest.mark.parametrize(
    "text", ["localhost", "localhost:0", "localhost:65536", "https://a:8501", "a b:1", "a:1/x", ":1"]
)
def test_a_wrong_address_is_explained(text):
    with pytest.raises(InputError, match=r"^--server '.*': expected HOST:PORT of TF Serving's REST interface"):
        Address.parse(text)


def forward(reply, path=PREDICT, method="POST", **limits):
    """What a forwarder makes of a server that sends `reply`, or nothing for ever, and what that server was sent."""
    received = []

    async def serve(reader, writer):
        received.append(await reader.read(4096))
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        forwarder = Forwarder(Address("127.0.0.1", port), **limits)
        answered = await forwarder.answer(Head(method, path, "localhost", {}), b'{"a": 1}')
        server.close()
        return answered, port

    response, port = asyncio.run(run())
    return response.status, json.loads(response.body), port, received


def http(status, body):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a_call_is_passed_on_and_so_is_its_answer():
    status, document, port, received = forward(http(200, '{"outputs": [1]}'))
    assert (status, document) == (200, {"outputs": [1]})
    head, _, body = received[0].decode().partition("\r\n\r\n")
    assert head.startswith(f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n")
    assert body == '{"a": 1}'
    assert forward(http(404, '{"error": "no model"}'))[:2] == (404, {"error": "no model"})


@pytest.mark.parametrize(
    ("reply", "status", "message"),
    [
        (http(200, "<html>"), 502, "answers with HTTP status 200 and no JSON: is that TF Serving's REST port"),
        (http(200, "[" * 100_000), 502, "answers with HTTP status 200 and no JSON"),
        (http(302, "{}"), 502, "answers with HTTP status 302 and no JSON"),
        (b"\0\0\x12\4\0\0\0\0\0", 502, "doesn't answer in HTTP/1.1: is that TF Serving's REST port (8501 as a rule"),
        (b"", 502, "closed the connection without an answer"),
        (http(200, '{"a": 1}')[:-3], 502, "doesn't answer in HTTP/1.1"),
        (http(200, " " * (17 << 20)), 502, "answers with more than 16 MiB"),
        (None, 504, "hasn't answered within 0.1 seconds"),
    ],
    ids=["html", "deep", "redirect", "gRPC", "nothing", "cut", "large", "silent"],
)
def test_a_server_that_misbehaves_is_explained(reply, status, message):
    limits = {"answer_seconds": 0.1} if reply is None else {}
    answered, document, port, _ = forward(reply, **limits)
    assert answered == status
    assert document["error"].startswith(f"127.0.0.1:{port} {message}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring/prometheus/metrics"),
        ("GET", PREDICT),
        ("POST", "/v1/models/hqgnn"),
        ("DELETE", "/v1/models/hqgnn"),
        ("POST", "/v1/models/a/b/../c:predict"),
        ("POST", "/v1/models/hqgnn:predict\r\nX: y"),
    ],
)
def test_nothing_but_calls_is_passed_on(method, path):
    status, document, _, received = forward(http(200, "{}"), path, method)
    assert (status, received) == (404, [])
    assert document["error"].startswith("Malformed request")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("127.0.0.1", "nothing answers at 127.0.0.1:1: connection refused"),
        ("host.invalid", "no machine is known by the"),
    ],
)
def test_a_server_that_is_not_there_is_explained(host, message):
    response = asyncio.run(Forwarder(Address(host, 1)).answer(Head("POST", PREDICT, None, {}), b"{}"))
    assert response.status == 502
    assert json.loads(response.body)["error"].startswith(message)
