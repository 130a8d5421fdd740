"""Digests of images: looked up in a registry on this machine that asks for a token, as docker.io's does."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pin_images
import pytest

INDEX = b'{"manifests": [{"platform": {"architecture": "amd64"}}, {"platform": {"architecture": "arm64"}}]}'
DIGEST = hashlib.sha256(INDEX).hexdigest()
OLD = "0" * 64


class Registry(BaseHTTPRequestHandler):
    """Has library/python:3.11; `library/forged:1` is sent under a digest that it doesn't have."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/token":
            return self.answer(200, b'{"token": "let-me-in"}' if "scope=repository" in query else b"{}")
        if self.headers.get("Authorization") != "Bearer let-me-in":
            realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
            challenge = f'Bearer realm="{realm}",service="here",scope="repository:library/python:pull"'
            return self.answer(401, b"{}", {"WWW-Authenticate": challenge})
        # Without the right Accept, a registry sends the old form, whose digest is another.
        if "manifest.list.v2+json" not in self.headers["Accept"]:
            return self.answer(406, b"")
        if path == "/v2/library/python/manifests/3.11":
            return self.answer(200, INDEX, {"Docker-Content-Digest": f"sha256:{DIGEST}"})
        if path == "/v2/library/forged/manifests/1":
            return self.answer(200, b"other", {"Docker-Content-Digest": f"sha256:{DIGEST}"})
        return self.answer(404, b"{}")

    def answer(self, code, body, headers=None):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def registry():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"docker.io": f"http://127.0.0.1:{server.server_address[1]}"}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM docker.io/library/python:3.11\n", f"FROM docker.io/library/python:3.11@sha256:{DIGEST}\n"),
        # What was pinned before follows the tag.
        (f"image: docker.io/library/python:3.11@sha256:{OLD}", f"image: docker.io/library/python:3.11@sha256:{DIGEST}"),
        ("image: registry.example/library/python:3.11", "image: registry.example/library/python:3.11"),
        ("image: localhost/hqgnn:server", "image: localhost/hqgnn:server"),
    ],
)
def test_the_digest_is_put_behind_the_tag(tmp_path, registry, text, expected):
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    assert pin_images.pin([path], registry) == []
    assert path.read_text() == expected


@pytest.mark.parametrize(
    ("image", "message"),
    [("docker.io/library/python:3.12", "404"), ("docker.io/library/forged:1", f"names sha256:{DIGEST} and sends")],
)
def test_what_cant_be_looked_up_stays_and_is_named(tmp_path, registry, image, message):
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM {image}\nFROM docker.io/library/python:3.11\n")
    (problem,) = pin_images.pin([path], registry)
    assert problem.startswith(f"{image}: not pinned: ")
    assert message in problem
    assert path.read_text() == f"FROM {image}\nFROM docker.io/library/python:3.11@sha256:{DIGEST}\n"


def test_without_a_registry_nothing_changes(tmp_path):
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM docker.io/library/python:3.11@sha256:{OLD}\n")
    (problem,) = pin_images.pin([path], {"docker.io": "http://127.0.0.1:1"})
    assert "refused" in problem
    assert OLD in path.read_text()


def test_every_image_of_the_repository_is_one_that_can_be_pinned():
    texts = {path: path.read_text() for pattern in pin_images.FILES for path in Path(pin_images.ROOT).glob(pattern)}
    images = {match["name"] for text in texts.values() for match in pin_images.IMAGE.finditer(text)}
    assert images == {"library/python", "tensorflow/serving", "tensorflow/tensorflow"}
