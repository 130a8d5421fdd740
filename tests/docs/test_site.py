"""`make docs` builds the site without a warning, and the site asks no other host for anything."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import urlsplit

import pytest
from pages import ROOT

pytestmark = pytest.mark.docs

_SITE = ROOT / "build" / "site"
# What a browser loads by itself.
_LOADED = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*?\ssrc=["']?([^"'\s>]+)|<link\b([^>]*)>""")


@pytest.fixture(scope="module")
def site():
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return _SITE


def test_every_page_is_built(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").glob("**/*.md")}
    built = {path.relative_to(site) for path in site.glob("**/*.html")}
    assert pages <= built


def test_nothing_comes_from_another_host(site):
    for page in site.glob("**/*.html"):
        for source, link in _LOADED.findall(page.read_text(encoding="utf-8")):
            is_loaded = re.search(r"""rel=["']?(?:stylesheet|icon|preload|preconnect)""", link)
            address = source or (re.search(r"""href=["']?([^"'\s>]+)""", link)[1] if is_loaded else "")
            assert not urlsplit(address).netloc, f"{page}: {address}"
    for sheet in site.glob("**/*.css"):
        for address in re.findall(r"url\((?![\"']?data:)([^)]+)\)", sheet.read_text(encoding="utf-8")):
            assert not urlsplit(address.strip("\"'")).netloc, f"{sheet}: {address}"


def test_the_signatures_of_the_python_api_are_there(site):
    page = (site / "python_api.html").read_text(encoding="utf-8")
    for name in ("Recommender", "partial_fit", "recommend_for_history", "GraphODE", "HQGNN"):
        assert name in page
    # Examples are code, and not quotes within quotes.
    assert page.count('class="gp"') > 40
    assert not re.search(r"<blockquote>\s*<blockquote>", page)
