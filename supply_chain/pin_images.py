"""Writes the digests of the images into the files that name them: `python supply_chain/pin_images.py`.

Asks each image's registry what its tag is now, and puts `@sha256:..` behind the tag. A digest that is there already is
replaced; `git diff` shows what has changed. Needs nothing but Python's standard library, and no account.

Exit codes: 0 all are pinned, 1 a registry didn't answer or gave something else than it named (one line for each image;
the other images are pinned).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pipelines/Dockerfile*", "serving/Dockerfile*", "serving/*.yaml", "serving/*/*.yaml")
# docker.io/NAME:TAG, with a digest or without. Images of your own (registry.example, localhost) stay as they are.
IMAGE = re.compile(r"(?P<host>docker\.io)/(?P<name>[a-z0-9._/-]+):(?P<tag>[\w][\w.-]*)(?:@sha256:[0-9a-f]{64})?")
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# docker.io is a name; the machine that answers for it has another one.
REGISTRIES = {"docker.io": "https://registry-1.docker.io"}
SECONDS = 30


class LookupFailedError(Exception):
    """A registry doesn't say which image a tag is."""


def find_digest(registry: str, name: str, tag: str) -> str:
    """The digest of the image, or of the list of its platforms, that a registry has under a tag.

    Args:
      registry: URL of the registry.
      name: repository, such as `library/python`.
      tag: such as `3.11.9-slim-bookworm`.

    Raises:
      LookupFailedError: Nothing answers, there is no such tag, or the answer isn't what its digest says.
    """
    request = urllib.request.Request(f"{registry}/v2/{name}/manifests/{tag}", headers={"Accept": ", ".join(MANIFESTS)})
    try:
        try:
            headers, body = _get(request)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            request.add_header("Authorization", f"Bearer {_token(error.headers.get('WWW-Authenticate', ''))}")
            headers, body = _get(request)
    except (OSError, ValueError) as error:
        raise LookupFailedError(f"{registry}: {error}") from error
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if headers.get("Docker-Content-Digest", digest) != digest:
        raise LookupFailedError(f"{registry} names {headers['Docker-Content-Digest']} and sends {digest}")
    return digest


def _get(request: urllib.request.Request) -> tuple[dict[str, str], bytes]:
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return dict(answer.headers), answer.read()


def _token(challenge: str) -> str:
    """What anybody gets who wants to read, from the place that the registry names."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.startswith("Bearer ") or "realm" not in fields:
        raise ValueError(f"asks for {challenge or 'a password'}, expected a Bearer challenge")
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    _, body = _get(urllib.request.Request(f"{fields['realm']}?{query}"))
    answer = json.loads(body)
    return str(answer.get("token") or answer["access_token"])


def pin(paths: Sequence[Path], registries: dict[str, str]) -> list[str]:
    """Pins every image in some files.

    Args:
      paths: files, which are rewritten.
      registries: URL by the host in an image's name.

    Returns:
      A line for each image whose digest couldn't be found, which stays as it is.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    images = {match.group("host", "name", "tag") for text in texts.values() for match in IMAGE.finditer(text)}
    digests: dict[tuple[str, ...], str] = {}
    problems = []
    for host, name, tag in sorted(images):
        try:
            digests[host, name, tag] = find_digest(registries[host], name, tag)
        except LookupFailedError as error:
            problems.append(f"{host}/{name}:{tag}: not pinned: {error}")
    for path, text in texts.items():
        changed = IMAGE.sub(lambda match: _pinned(match, digests), text)
        if changed != text:
            path.write_text(changed, encoding="utf-8")
    return problems


def _pinned(match: re.Match[str], digests: dict[tuple[str, ...], str]) -> str:
    digest = digests.get(match.group("host", "name", "tag"))
    return f"{match['host']}/{match['name']}:{match['tag']}@{digest}" if digest else match[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Pins the images of the repository; returns the exit code."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    problems = pin([path for pattern in FILES for path in sorted(ROOT.glob(pattern))], REGISTRIES)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
