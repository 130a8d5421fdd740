"""The page in a real Chromium, against answers worked out with NumPy; and how `tf-hqgnn explore` starts and ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from chromium import chromium, find_chromium
from shown import (
    BUNDLE,
    IDS,
    IDS_OF_B,
    INTRUDERS,
    IS_STILL,
    ORACLE,
    TITLE_OF,
    TITLES,
    USER,
    choose,
    opened,
    printed_by,
    seen,
    shows,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from tf_hqgnn.cli.explore_command import explore as explore_command
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.explore.forwarder import Address, Forwarder
from tf_hqgnn.explore.server import ExploreServer, explore
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.contents import TITLES_FILE
from tf_hqgnn.export.layout import WARMUP_FILE
from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.http_server import HttpServer
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

EXPORT_OF_0_1 = Path(__file__).parents[1] / "export" / "data" / "export_of_0_1.tar.xz"


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Two equal versions of hqgnn, and a model of version 0.1, which has neither explain nor recommend_where."""
    folder = tmp_path_factory.mktemp("explore") / "export"
    first = export_exact(BUNDLE, folder, ExportConfig(default_k=5), 1)
    # Every load would ask all signatures first, of which the page needs few.
    (first / WARMUP_FILE).unlink()
    shutil.copytree(first, folder / "hqgnn" / "2")
    with tarfile.open(EXPORT_OF_0_1) as archive:
        archive.extractall(folder.parent / "old", filter="data")
    (old,) = (folder.parent / "old").rglob("hqgnn/1")
    (old / WARMUP_FILE).unlink()
    shutil.copytree(old, folder / "v0_1" / "1")
    return folder


@pytest.fixture(scope="module")
def explorer(export):
    """The page over the models that it loads itself."""
    with ExploreServer(export, port=0) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser, explorer):
    """The page, at a user; nothing may be asked of others, and nothing complained of, while a test uses it."""
    return opened(browser, explorer)


def test_a_user_is_found_by_id_and_the_page_shows_what_the_model_answers(page):
    page.press("/", "/")
    page.type("onerror")
    page.until("document.querySelectorAll('[role=option]').length === 1")
    page.press("Enter")
    scores, expected = ORACLE.recommend(USER, 10)
    shows(page, expected)
    assert page.run("document.querySelector('.heading h2').textContent") == f"User {USER}"
    taken = page.run("[...document.querySelectorAll('.taken .name')].map((one) => one.textContent)")
    assert sorted(taken) == sorted(TITLE_OF[item] for item in seen(USER))
    shown = page.run("[...document.querySelectorAll('.item .score span:first-child')].map((one) => one.textContent)")
    np.testing.assert_allclose([float(score) for score in shown], scores, rtol=6e-3)
    names = page.run("[...document.querySelectorAll('.item .name')].map((one) => one.textContent)")
    assert names == [TITLE_OF[item] for item in expected]
    reasons = "[...document.querySelectorAll('.because:not([hidden]) q')].map((one) => one.textContent)"
    assert set(page.until(f"{reasons}.length && {reasons}")) <= set(taken)
    assert page.run(INTRUDERS) == 0
    assert re.fullmatch(r"[\d.]+ ms", page.run("document.querySelector('.latency').textContent"))


def test_the_page_asks_its_own_server_alone_and_breaks_no_rule_of_its_policy(page, explorer):
    page.click(".item .name")
    page.until("document.querySelectorAll('.numbers').length === 2")
    assert page.complaints == []
    base = explorer.url.removesuffix("explore")
    assert {url for url in page.requests if not url.startswith((base, "about:"))} == set()
    # The policy holds: what gets into the page neither becomes markup nor reaches another host.
    refused = page.run("(() => { try { document.body.innerHTML = '<b>'; } catch (error) { return error.message } })()")
    assert "TrustedHTML" in refused
    page.run("new Promise((end) => Object.assign(new Image(), {src: 'http://other.invalid/x', onerror: end}))")
    assert any("Content Security Policy" in text and "img-src" in text for text in page.complaints)


def test_an_item_is_excluded_with_one_click_and_comes_back(page):
    user = BUNDLE.user_ids[5]
    first, second = ORACLE.recommend(user, 2)[1]
    page.click(".item [aria-label^=Exclude]")
    shows(page, ORACLE.recommend(user, 10, exclude=[first])[1])
    page.run("document.querySelector('.item .name').focus()")
    page.press("x", "x")
    shows(page, ORACLE.recommend(user, 10, exclude=[first, second])[1])
    # The item that has moved up has the focus.
    page.until("document.activeElement === document.querySelector('.item .name')")
    page.until("document.querySelectorAll('.chip').length === 2")
    page.run("[...document.querySelectorAll('.toolbar .link')][0].click()")
    shows(page, ORACLE.recommend(user, 10)[1])


def test_a_category_filters_and_what_is_left_of_nothing_is_said(page):
    user = BUNDLE.user_ids[5]
    choose(page, "[name=category]", "film")
    films = ORACLE.recommend(user, 40, category="film")[1]
    shows(page, films[:10])
    choose(page, ".toolbar select", "50")
    shows(page, films)
    for _ in films:
        page.run(f"document.querySelector('.item [aria-label^=Exclude]').click(); {IS_STILL}")
        page.until(IS_STILL)
    assert page.until("document.querySelector('.note:not([hidden])')?.textContent").startswith("No item is left")
    page.click(".note .link")
    shows(page, ORACLE.recommend(user, 50)[1])


def test_a_click_shows_similar_items_and_where_a_score_comes_from(page):
    user = BUNDLE.user_ids[5]
    scores, (item, *_) = ORACLE.recommend(user, 10)
    page.click(".item .name")
    page.until("document.querySelectorAll('.numbers').length === 2")
    lists = page.run(
        "[...document.querySelectorAll('.numbers')].map((list) => [...list.children].map((line) => "
        "[line.firstChild.textContent, Number(line.lastChild.textContent)]))"
    )
    similar_scores, similar = ORACLE.similar(item, 8)
    assert [name for name, _ in lists[1]] == [TITLE_OF[one] for one in similar]
    np.testing.assert_allclose([number for _, number in lists[1]], similar_scores, rtol=6e-3, atol=6e-4)
    assert sum(number for _, number in lists[0]) == pytest.approx(scores[0], abs=0.02)
    # On to a similar one, and back.
    page.click(".numbers:last-of-type .name")
    page.until(f"document.querySelector('.sheet h2').textContent !== {json.dumps(TITLE_OF[item])}")
    page.run("document.querySelector('.sheet-top .link').click()")
    page.until(f"document.querySelector('.sheet h2').textContent === {json.dumps(TITLE_OF[item])}")
    page.press("Escape")
    page.until("!document.querySelector('dialog[open]')")


def test_a_history_is_put_together_by_searching_titles(page):
    page.click("[data-mode=history]")
    shows(page, ORACLE.for_history([], 10)[1])
    for text in ("amelie", "script"):
        page.run("document.querySelector('.combobox input').focus()")
        page.type(text)
        page.until("document.querySelectorAll('[role=option]').length === 1")
        page.press("Enter")
    shows(page, ORACLE.for_history([BUNDLE.item_ids[4], BUNDLE.item_ids[0]], 10)[1])
    page.until(IS_STILL)
    # No signature takes a history with diversity, and the page says so.
    assert not page.run("document.querySelector('[name=diversity]').checkVisibility()")
    assert "no signature takes them with a history" in page.run("document.querySelector('.lacking').innerText")
    assert page.run("[...document.querySelectorAll('.taken .name')].map((one) => one.textContent)") == [
        TITLES[0],
        TITLES[4],
    ]
    assert page.run(INTRUDERS) == 0
    page.click(".taken [aria-label^=Take]")
    shows(page, ORACLE.for_history([BUNDLE.item_ids[4]], 10)[1])


def test_what_each_item_of_a_history_adds_to_a_score_is_shown(browser, explorer):
    history = [BUNDLE.item_ids[row] for row in (4, 0, 9)]
    opened(browser, explorer, urlencode([("history", item) for item in [*history, "unheard-of", history[0]]]))
    (item, *_), score = browser.run(IDS), browser.run("document.querySelector('.score').title.replace('Score ', '')")
    browser.until("document.querySelector('.because:not([hidden])') !== null")
    shown = browser.run("[...document.querySelectorAll('.item:first-child .because q')].map((one) => one.textContent)")
    browser.click(".item .name")
    browser.until("document.querySelectorAll('.numbers').length === 2")
    lines = browser.run(
        "[...document.querySelector('.numbers').children].map((line) => "
        "[line.firstChild.textContent, Number(line.lastChild.textContent)])"
    )
    browser.press("Escape")
    shares = dict(lines)
    assert len(shares) == len(history)
    assert sum(shares.values()) == pytest.approx(float(score), abs=0.002)
    assert set(shown) == {name for name, share in shares.items() if share > 0}
    # What is added is the score for that item of the history alone, over the square root of how many there are.
    for name in history:
        alone = dict(zip(*reversed(ORACLE.for_history([name], len(BUNDLE.item_ids)))))
        assert shares[TITLE_OF[name]] == pytest.approx(alone[item] / np.sqrt(3), abs=0.002)


def test_two_lists_stand_side_by_side_with_what_differs(page):
    user = BUNDLE.user_ids[5]
    all_items, films = (ORACLE.recommend(user, 10, category=category)[1] for category in ("", "film"))
    page.press("c", "c")
    shows(page, all_items, IDS_OF_B)
    assert page.run("[...document.querySelectorAll('[name=version]')].map((one) => one.value)") == ["2", "1"]
    page.until("document.querySelector('#difference').textContent === 'Both lists are the same.'")
    choose(page, "[data-list=B] [name=category]", "film")
    shows(page, films, IDS_OF_B)
    shared = len({*all_items} & {*films})
    only = len(films) - shared
    told = f"{shared} in both lists, {len(all_items) - shared} only in A, {only} only in B."
    page.until(f"document.querySelector('#difference').textContent === {json.dumps(told)}")
    for place, item in enumerate(films):
        mark = page.run(f"document.querySelectorAll('[data-list=B] .mark')[{place}].textContent")
        moved = all_items.index(item) - place if item in all_items else None
        assert mark == ("only in B" if moved is None else f"{'▲' if moved > 0 else '▼'} {abs(moved)}" if moved else "")


def test_a_model_without_wishes_has_no_sliders_and_no_reasons(page):
    is_shown = "document.querySelector('[name=diversity]').checkVisibility()"
    assert page.run(is_shown)
    choose(page, "[name=model]", "v0_1")
    page.until(f"!({is_shown}) && {IS_STILL}")
    assert page.run("document.querySelectorAll('.because:not([hidden])').length") == 0
    assert "exported before" in page.run("document.querySelector('.lacking').innerText")
    assert page.run("document.querySelector('[name=version]').value") == "1"


def test_copied_calls_answer_what_the_page_shows(page, explorer):
    choose(page, "[name=diversity]", "0.6")
    choose(page, "[name=popularity]", "-0.4")
    page.until(f"{IS_STILL} && document.querySelector('.slider output').textContent === '0.6'")
    page.run("new Promise((resolve) => setTimeout(resolve, 300))")
    page.until(IS_STILL)
    origin = explorer.url.removesuffix("/explore")
    page.send("Browser.grantPermissions", origin=origin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    texts = []
    for language in ("curl", "Python"):
        page.run(f"document.querySelector('.timing [title$={language}]').click()")
        page.until(f"document.querySelector('#toast').textContent === 'Copied as {language}'")
        texts.append(page.run("navigator.clipboard.readText()"))
    curl, python = texts
    answers = [
        json.loads(subprocess.run(["bash", "-c", curl], check=True, capture_output=True).stdout),
        printed_by(python),
    ]
    expected = page.run(IDS)
    for answer in answers:
        assert answer["outputs"]["item_id"] == [expected]
    assert '"diversity":[0.6]' in curl
    assert expected != ORACLE.recommend(BUNDLE.user_ids[5], 10)[1]


def test_the_page_fits_a_phone_and_follows_light_and_dark(browser, explorer):
    colours = []
    for is_dark in (False, True):
        opened(browser, explorer, width=390, height=844, is_phone=True, is_dark=is_dark)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    browser.click("#theme")
    assert browser.until("document.documentElement.dataset.theme") == "light"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == colours[0]
    browser.run("localStorage.clear()")


def test_a_user_that_nobody_knows_gets_what_is_popular_and_is_told_so(browser, explorer):
    opened(browser, explorer, "user=nobody")
    shows(browser, ORACLE.recommend("nobody", 10)[1])
    assert "doesn't know this user" in browser.run("document.querySelector('.note').textContent")
    browser.press("r", "r")
    browser.until("document.querySelector('.list-head h2').textContent === 'Recommended'")


def test_a_server_elsewhere_goes_and_comes_back(browser, export, explorer):
    config = ModelConfig(name="hqgnn", base_path=str(export / "hqgnn"))
    server = Server(None, host="127.0.0.2", grpc_port=None, rest_port=0, models=[config]).start()
    try:
        with ExploreServer(export, server=f"127.0.0.2:{server.rest_port}", port=0) as remote:
            user = BUNDLE.user_ids[5]
            opened(browser, remote)
            shows(browser, ORACLE.recommend(user, 10)[1])
            place = f"127.0.0.2:{server.rest_port}"
            assert browser.run("document.querySelector('#connection').textContent") == place
            # A model that only the export has isn't offered.
            assert browser.run("document.querySelector('[name=model] [value=v0_1]').disabled")
            server.stop()
            told = browser.until(
                "!document.querySelector('#banner').hidden && document.querySelector('#banner').textContent"
            )
            assert told == f"Nothing answers at {place}: connection refused. The page asks again every second."
            first = ORACLE.recommend(user, 1)[1]
            browser.click(".item [aria-label^=Exclude]")
            # It is back: another would take seconds to load the model, so this one passes calls on to one that has it.
            again = HttpServer(["127.0.0.2"], server.rest_port, 10, ByteBudget(1 << 24))
            again.start(Forwarder(Address("127.0.0.1", explorer.port)))
            browser.until("document.querySelector('#banner').hidden")
            # What was excluded meanwhile is.
            shows(browser, ORACLE.recommend(user, 10, exclude=first)[1])
            again.stop(time.monotonic() + 60)
    finally:
        server.stop()


def test_new_titles_are_read_with_a_new_version(export, tmp_path):
    shutil.copytree(export / "hqgnn" / "1", tmp_path / "hqgnn" / "1")

    def has_titles(server):
        with urllib.request.urlopen(f"{server.url}/api/about") as response:
            return json.load(response)["has_titles"]

    with ExploreServer(tmp_path, server="localhost:1", port=0) as server:
        assert has_titles(server)
        shutil.copytree(tmp_path / "hqgnn" / "1", tmp_path / "hqgnn" / ".new")
        (tmp_path / "hqgnn" / ".new" / TITLES_FILE).unlink()
        (tmp_path / "hqgnn" / ".new").rename(tmp_path / "hqgnn" / "2")
        assert not has_titles(server)
        # One that can't be read changes nothing.
        (tmp_path / "hqgnn" / "3").mkdir()
        assert not has_titles(server)


def test_it_says_where_the_page_is_and_ends_on_ctrl_c(export, capfd):
    printed = []

    def stop_when_ready():
        while "\n" not in "".join(printed):
            printed.append(capfd.readouterr().out)
        os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=stop_when_ready)
    stopper.start()
    explore(export, server="localhost:1", port=0)
    stopper.join()
    assert re.fullmatch(
        rf"Explore {re.escape(str(export))} at http://127\.0\.0\.1:\d+/explore \(TF Serving at localhost:1 answers\); "
        r"Ctrl-C ends it\n",
        "".join(printed),
    )


def test_a_taken_port_is_one_line_that_names_the_option(export, explorer):
    with pytest.raises(
        InputError, match=rf"^the page on 127.0.0.1:{explorer.port}: .*; choose another .* with --port$"
    ):
        ExploreServer(export, server="localhost:1", port=explorer.port).start()


def test_a_missing_package_is_one_line(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(InputError, match=r"^explore needs the package h11: pip install 'tf_hqgnn\[serving\]'$"):
        explore_command(export)
