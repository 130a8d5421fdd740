"""What the page is made from in the tests, what it must show, and how they ask it."""

import ast
import dataclasses
import json
import subprocess
import sys

import numpy as np
from export_oracle import Oracle, make_bundle

USER = '<img src="x" onerror="alert(1)">'
TITLES = ["<script>alert(1)</script>", "[/b]", "=1+1", "日本\nof two lines", "Amélie"]
# What a hostile title would need to become: an element that isn't the page's own.
INTRUDERS = (
    "document.querySelectorAll('main script, aside script, dialog script, main img, aside img, dialog img').length"
)
IDS = "[...document.querySelectorAll('[data-list=A] .item')].map((one) => one.dataset.id)"
IDS_OF_B = "[...document.querySelectorAll('[data-list=B] .item')].map((one) => one.dataset.id)"
IS_STILL = "document.querySelector('.items') && !document.querySelector('[aria-busy]')"


def titled_bundle():
    """A bundle with a user and titles that no page should take for markup; user 3 is that user."""
    bundle = make_bundle()
    users, items = bundle.user_ids.copy(), bundle.item_ids
    users[3] = USER
    titles = np.array([*TITLES, *(f"Title {n}" for n in range(len(items) - len(TITLES)))], object)
    return dataclasses.replace(bundle, user_ids=users, item_titles=titles)


BUNDLE = titled_bundle()
ORACLE = Oracle(BUNDLE)
TITLE_OF = dict(zip(BUNDLE.item_ids, BUNDLE.item_titles))


def opened(browser, server, hash_=None, **screen):
    browser.requests.clear()
    browser.complaints.clear()
    browser.screen(**{"width": 1280, "height": 900, **screen})
    browser.open("about:blank")
    browser.open(f"{server.url}#{hash_ or f'user={BUNDLE.user_ids[5]}'}")
    browser.until(f"{IS_STILL} && document.querySelector('.item, .note:not([hidden])') !== null")
    return browser


def shows(browser, expected, ids=IDS):
    """Waits until a list is exactly the expected one."""
    text = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
    browser.until(f"JSON.stringify({ids}) === {json.dumps(text)}")


def choose(browser, selector, value):
    field = f"document.querySelector({json.dumps(selector)})"
    browser.run(
        f"{field}.value = {json.dumps(value)}; for (const kind of ['input', 'change'])"
        f" {field}.dispatchEvent(new Event(kind, {{bubbles: true}}))"
    )


def seen(user_id):
    indptr, indices = BUNDLE.seen
    row = ORACLE.user_rows[user_id]
    return {BUNDLE.item_ids[item] for item in indices[indptr[row] : indptr[row + 1]]}


def printed_by(code):
    """What a program that prints a dict prints; of data alone, since it is read by `ast`."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)
