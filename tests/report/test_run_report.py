"""report.html: its figures against counts by hand, and what may be in the file."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.linalg

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.report import charts, curves, discrepancy, overview, validation_sample
from tf_hqgnn.report.examples import choose_users, examples
from tf_hqgnn.report.page import render_report, write_report
from tf_hqgnn.report.validation_sample import ValidationSample
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.training.coding import post_training_codes
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.training.propagation_search import search_propagation, write_candidates
from tf_hqgnn.types import Interactions

EVIL = "<script>alert('x')</script>"
EVIL_ID = '"><img src=x onerror=alert(1)>'


def make_run(path, num_users=40, num_items=30, seed=3, bits=None, has_valid=True, titles=True, **sections):
    """A run directory without a training: random tables, propagated; metrics and history as training writes them."""
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(num_users) for i in rng.choice(num_items, min(num_items, 3 + u // 3), replace=False)]
    pairs = Interactions(*np.array(pairs, np.int32).T)
    last = np.append(pairs.user_index[1:] != pairs.user_index[:-1], True)
    held_out = last | np.append(last[1:], False)
    train, valid = pairs.take(~held_out), pairs.take(held_out if has_valid else np.zeros(len(pairs), bool))
    test = Interactions(np.array([0, 1], np.int32), np.array([1, 0], np.int32))
    user_ids = np.array([f"u{n:03d}" for n in range(num_users)], object)
    item_ids = np.array([f"i{n:03d}" for n in range(num_items)], object)
    names = np.array([f"Title {n}" for n in range(num_items)], object)
    if titles:
        names[:] = EVIL
        item_ids[0], user_ids[:] = EVIL_ID, [f"{EVIL_ID}{n}" for n in range(num_users)]
    dataset = SplitDataset(
        user_ids, item_ids, train, valid, test, names if titles else None, names if titles else None, None
    )
    config = Config(seed=seed, quantization={"bits": bits, "method": "post_training"}, **sections)
    graph = InteractionGraph.from_interactions(train, num_users, num_items)
    dim = config.model.embedding_dim
    trained = [rng.normal(size=(n, dim)).astype(np.float32) for n in (num_users, num_items)]
    users, items = propagate_embeddings(graph, *trained, config.propagation)
    coded = None if bits is None else post_training_codes(users, items, config.quantization)

    def judge(users, items):
        return evaluate_embeddings(users, items, valid, graph.seen(), graph.item_degree, (5, 20)).values

    full = judge(users, items) if has_valid else {}
    popular = evaluate_popularity(valid, graph.seen(), graph.item_degree, (5, 20)).values if has_valid else {}
    metrics = {"epochs": 3, "best_epoch": 2, "seconds": 1.25, "valid": full, "full_precision": None}
    metrics["popularity"] = popular
    if coded is not None and has_valid:
        metrics |= {"valid": judge(*coded.dequantize()), "full_precision": full}
    path.mkdir(parents=True)
    TrainedTables(*(np.asarray(table, np.float32) for table in trained)).save(path)
    columns = "epoch,loss,train_seconds,validation_seconds" + (",valid_ndcg@20" if has_valid else "")
    rows = [f"{n},{1 / n},0.5,0.25" + (f",{n / 10}" if has_valid else "") for n in (1, 2, 3)]
    (path / "history.csv").write_text("\n".join([columns, *rows]) + "\n")
    return RunDirectory(path, config, dataset, graph, users, items, coded, metrics)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def report(run):
    return Page(render_report(run))


class Page(HTMLParser):
    """Tags, ids, references and the tables of a page; raises where tags don't match."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, source):
        super().__init__()
        self.source, self.open, self.tags, self.ids, self.attributes = source, [], set(), [], []
        self.words, self.tables = [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        self.ids += [value for key, value in attributes if key == "id"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return "".join(self.words)

    def rows(self, *header):
        """The body of the table that starts with these columns."""
        (found,) = [table for table in self.tables if tuple(table[0][: len(header)]) == header]
        return found[1:]


def targets_of(run):
    return {u: set(run.dataset.valid.item_index[run.dataset.valid.user_index == u]) for u in range(40)}


def top_of(run, users, items):
    """The best 20 unseen items of each user, item by item."""
    scores = users @ items.T
    for user, item in zip(run.dataset.train.user_index, run.dataset.train.item_index):
        scores[user, item] = -np.inf
    order = np.lexsort((np.tile(np.arange(len(items)), (len(users), 1)), -scores))
    return [[i for i in row[:20] if scores[u, i] > -np.inf] for u, row in enumerate(order)]


def ndcg_of(run, top, user):
    targets = targets_of(run)[user]
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(top[user]) if item in targets)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(20, len(targets))))


def test_metrics_on_the_page_are_those_of_the_run(run, report):
    rows = {row[0]: row[1:] for row in report.rows("metric", "model", "popularity")}
    for key in ("recall@5", "ndcg@20", "coverage@20"):
        assert rows[key] == [f"{run.metrics[kind][key]:.4f}" for kind in ("valid", "popularity")]
    assert "40users" in report.text
    assert f"{len(run.dataset.train):,}training interactions" in report.text
    assert "tf-hqgnn evaluate run" in report.text
    assert "seed 3" in report.text


def test_degree_buckets_are_those_counted_by_hand(run, report):
    degree = np.bincount(run.dataset.train.user_index, minlength=40).tolist()
    # 40 users with 1, 1, 1, 2, 2, 2, ... 13, 13, 13, 14: a fifth ends after each 8, and those of one degree stay
    # together.
    assert sorted(degree) == degree == [1 + u // 3 for u in range(40)]
    popular = np.ones((40, 1)), run.graph.item_degree[:, None].astype(float)
    tops = [top_of(run, run.user_embeddings, run.item_embeddings), top_of(run, *popular)]
    expected = []
    for lowest, highest in ((1, 3), (4, 6), (7, 8), (9, 11), (12, 14)):
        members = [u for u in range(40) if lowest <= degree[u] <= highest]
        means = [np.mean([ndcg_of(run, top, u) for u in members]) for top in tops]
        expected.append([f"{lowest}-{highest}", str(len(members)), *(f"{mean:.4f}" for mean in means)])
    assert report.rows("training interactions", "users") == expected


def test_recall_by_popularity_of_the_item_is_that_counted_by_hand(run, report):
    order = sorted(range(30), key=lambda item: (-run.graph.item_degree[item], item))
    top = top_of(run, run.user_embeddings, run.item_embeddings)
    for place, row in enumerate(report.rows("group", "held out")):
        group = set(order[3 * place : 3 * place + 3])
        pairs = [(u, i) for u, items in targets_of(run).items() for i in items if i in group]
        assert row[:2] == [str(place + 1), str(len(pairs))]
        assert row[2] == (f"{np.mean([i in top[u] for u, i in pairs]):.4f}" if pairs else "-")
    assert place == 9


@pytest.mark.parametrize("user_bits", [8, 2])
def test_bits_against_separate_evaluations(tmp_path, user_bits):
    run = make_run(tmp_path / "run", bits=2)
    settings = run.config.quantization.model_copy(update={"user_bits": user_bits})
    run = replace(run, config=run.config.model_copy(update={"quantization": settings}))
    rows = {row[0]: row[1:] for row in Page(render_report(run)).rows("items", "bytes")}
    full = run.metrics["full_precision"]["ndcg@20"]
    for bits in (1, 2, 4, 8):
        widths = {"bits": bits, "user_bits": bits if user_bits == 2 else 8}
        codes = post_training_codes(
            run.user_embeddings, run.item_embeddings, settings.model_copy(update=widths)
        ).dequantize()
        ndcg = evaluate_embeddings(*codes, run.dataset.valid, run.graph.seen(), run.graph.item_degree, (20,)).values[
            "ndcg@20"
        ]
        assert rows[f"{bits} bit, rounded"] == [f"{8 * bits + 2}", f"{ndcg:.4f}", f"{ndcg / full:.3f}"]
    assert rows["2 bit, this run"][1] == f"{run.metrics['valid']['ndcg@20']:.4f}"
    assert rows["float32"] == ["256", f"{full:.4f}", "1.000"]


def test_a_coded_run_shows_codes_beside_full_precision(tmp_path):
    run = make_run(tmp_path / "run", bits=1)
    (tmp_path / "run" / "quantization").mkdir()
    (tmp_path / "run" / "quantization" / "history.csv").write_text(
        "epoch,loss,delta_users,delta_items,valid_ndcg@20\n1,2.5,0,0.1,\n2,2.25,0,0.2,0.125\n"
    )
    page = Page(render_report(run))
    row = next(row for row in page.rows("metric", "1 bit", "float32") if row[0] == "ndcg@20")
    coded, full = run.metrics["valid"]["ndcg@20"], run.metrics["full_precision"]["ndcg@20"]
    assert row[1:3] == [f"{coded:.4f}", f"{full:.4f}"]
    assert row[4] == f"{coded / full:.3f}"
    assert "Training of the codes" in page.text
    assert "delta" in page.text


def dense_adjacency(graph):
    adjacency = np.zeros((graph.num_nodes, graph.num_nodes))
    for user in range(graph.num_users):
        for item in graph.indices[graph.indptr[user] : graph.indptr[user + 1]]:
            weight = (graph.user_degree[user] * graph.item_degree[item]) ** -0.5
            adjacency[user, graph.num_users + item] = adjacency[graph.num_users + item, user] = weight
    return adjacency


@pytest.mark.parametrize("normalize", [True, False])
def test_discrepancy_against_dense_matrices(tmp_path, normalize):
    settings = {"t1": 1.5, "solver": "euler", "normalize": normalize}
    run = make_run(tmp_path / "run", propagation=settings)
    trained = run.tables().filled()
    found = discrepancy.measure(run, trained)
    e, adjacency = np.concatenate(trained).astype(np.float64), dense_adjacency(run.graph)
    if normalize:
        e /= np.linalg.norm(e, axis=1, keepdims=True)

    def distances(h):
        cosine = np.sum(h * e, axis=1) / (np.linalg.norm(h, axis=1) * np.linalg.norm(e, axis=1))
        has_neighbour = np.concatenate([run.graph.user_degree, run.graph.item_degree]) > 0
        users = np.arange(70) < 40
        return [np.mean(1 - cosine[has_neighbour & kind]) for kind in (users, ~users)]

    for hops in range(5):
        np.testing.assert_allclose(
            found.hops[:, hops], distances(np.linalg.matrix_power(adjacency, hops) @ e), atol=1e-5
        )
    assert found.times[0] == 0
    assert found.times[-1] == 3.0
    for place in (0, 8, 16):
        # h' = A h + e with h(0) = e, as one linear system of (h, e).
        zero = np.zeros_like(adjacency)
        system = np.block([[adjacency, np.eye(70)], [zero, zero]])
        h = (scipy.linalg.expm(found.times[place] * system) @ np.concatenate([e, e]))[:70]
        np.testing.assert_allclose(found.along_time[:, place], distances(h), atol=1e-4)
    np.testing.assert_allclose(found.served, distances(2.5 * e + 1.5 * adjacency @ e), atol=1e-5)


def test_discrepancy_of_other_encoders(tmp_path):
    none = {"solver": "none", "normalize": False}
    run = make_run(tmp_path / "run", model={"encoder": "lightgcn"}, propagation=none)
    html = discrepancy.discrepancy(run, None)
    assert "hops" in html
    assert "Along the ODE" not in html
    ngcf = run.config.model_copy(update={"model": run.config.model.model_copy(update={"encoder": "ngcf"})})
    assert discrepancy.discrepancy(replace(run, config=ngcf), None) == ""


def test_discrepancy_without_tables_or_with_too_many_edges(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    trained = run.tables().filled()
    whole = discrepancy.discrepancy(run, None)
    (run.path / "tables.npz").unlink()
    assert "the run has no trained tables" in discrepancy.discrepancy(run, None)
    assert discrepancy.discrepancy(run, trained) == whole
    monkeypatch.setattr(discrepancy, "MAX_EDGES", 10)
    assert "more than 10 interactions" in discrepancy.discrepancy(run, trained)


def test_titles_and_ids_are_text_and_nothing_is_loaded(report):
    assert not {"script", "img", "link", "iframe", "object"} & report.tags
    assert EVIL in report.text
    assert EVIL_ID in report.text
    assert not {"src", "srcset", "onerror", "onload"} & {key for key, _ in report.attributes}
    assert all(value.startswith("#") for key, value in report.attributes if key.endswith("href"))
    assert not re.search(r"https?:|@import|url\((?!#)", report.source)
    assert ("http-equiv", "Content-Security-Policy") in report.attributes
    assert ("name", "viewport") in report.attributes


def test_ids_are_unique_and_references_lead_to_them(report):
    assert len(set(report.ids)) == len(report.ids) > 50
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', report.source)
    assert references
    assert {a or b for a, b in references} <= set(report.ids)


def test_the_same_run_gives_the_same_bytes_under_either_name(run, tmp_path):
    write_report(run, tmp_path / "a.html")
    unfinished = make_run(tmp_path / "run.partial")
    write_report(unfinished, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert len((tmp_path / "a.html").read_bytes()) < 1_000_000
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "b.html", "run.partial"}


def test_the_test_split_is_only_counted(run, report):
    other = Interactions(np.array([5, 6], np.int32), np.array([7, 8], np.int32))
    assert render_report(replace(run, dataset=replace(run.dataset, test=other))) == report.source


def test_without_validation_there_are_curves_and_users_but_no_accuracy(tmp_path):
    page = Page(render_report(make_run(tmp_path / "run", has_valid=False, titles=False)))
    assert "No interaction was held out for validation" in page.text
    assert "NDCG against bits" not in page.text
    assert "Metrics at k" not in page.text
    assert "training loss" in page.text
    assert "10 users" in page.text
    tables = [table for table in page.tables if table[0] == ["", "item"]]
    assert len(tables) == 10
    assert tables[0][1][0] == "1"


@pytest.mark.parametrize(("monitor", "label"), [("ndcg@20", "NDCG@20"), ("recall@5", "recall@5")])
def test_propagations_that_were_tried_are_drawn(tmp_path, monitor, label):
    run = make_run(tmp_path / "run", evaluation={"monitor": monitor})
    assert "after other propagations" not in render_report(run)
    _, tried = search_propagation(run.config.propagation, lambda one: 0.3 - abs(one.t1 - 0.25))
    write_candidates(run.path / "propagation.csv", tried, monitor)
    page = render_report(run)
    assert f"{label} of the same trained tables after other propagations" in page
    assert "served: euler" in page


def test_a_tiny_catalogue(tmp_path):
    page = Page(render_report(make_run(tmp_path / "run", num_users=4, num_items=4, titles=False)))
    assert len(page.rows("group", "held out")) == 4
    assert "4 users" in page.text


def test_users_are_spread_over_degrees_and_have_their_hits_marked(run):
    users = choose_users(run)
    degrees = run.graph.user_degree[users].tolist()
    assert len(set(users.tolist())) == 10
    assert degrees == sorted(degrees)
    # One of each tenth of the 40 users, who are ordered by degree already.
    assert (users // 4).tolist() == list(range(10))
    top = top_of(run, run.user_embeddings, run.item_embeddings)
    tables = Page(examples(run)).tables
    for user, rows in zip(users, tables):
        assert [row[2] for row in rows[1:]] == [run.dataset.item_ids[i] for i in top[user][:10]]
        assert [row[-1] == "✓" for row in rows[1:]] == [i in targets_of(run)[user] for i in top[user][:10]]


def test_the_history_shows_the_latest_items_of_a_log_with_times(run):
    train = run.dataset.train
    timed = replace(train, timestamp=np.arange(len(train), dtype=np.float64))
    html = examples(replace(run, dataset=replace(run.dataset, train=timed, titles=None)))
    user = choose_users(run)[-1]
    latest = train.item_index[train.user_index == user][::-1][:8]
    assert "Last took</b> " + " · ".join(f"<bdi>{name}</bdi>" for name in run.dataset.item_ids[latest]) in html.replace(
        "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;", EVIL_ID
    )


def test_many_users_are_sampled(run, monkeypatch):
    monkeypatch.setattr(validation_sample, "MAX_USERS", 15)
    sample = ValidationSample.draw(run)
    assert len(set(sample.users.tolist())) == 15
    assert (np.diff(sample.users) > 0).all()
    assert "a sample of 15 of the 40 users" in render_report(run)
    top = sample.rank(run.user_embeddings, run.item_embeddings)
    brute = top_of(run, run.user_embeddings, run.item_embeddings)
    assert sample.ndcg(top) == pytest.approx(np.mean([ndcg_of(run, brute, u) for u in sample.users]))
    # A large catalogue has fewer users ranked.
    monkeypatch.setattr(validation_sample, "MIN_USERS", 2)
    monkeypatch.setattr(validation_sample, "MAX_SCORES", 30 * 7)
    assert len(ValidationSample.draw(run).users) == 7


def test_labels_of_an_axis_keep_their_digits():
    ticks = ([0, 1], ["0.125", "<b>"])
    svg = charts.line_chart("key", "what it is", ("x", "y"), [charts.Series("a", [0, 1], [0.98765, 0.2])], ticks)
    page = Page(svg)
    assert "0.125" in page.text
    assert "<b>" in page.text
    assert not re.search(r"[ML] ?\d+\.\d{3}", svg)


def test_metrics_at_a_single_k_are_bars(run):
    values = {
        kind: {key: x for key, x in run.metrics[kind].items() if key.endswith("@20")}
        for kind in ("valid", "popularity")
    }
    html = overview.metrics(replace(run, metrics=run.metrics | values))
    assert html.count("<svg") == 1
    assert len(Page(html).rows("metric", "model")) == 6


def test_history_files(tmp_path):
    assert curves.read_history(tmp_path / "history.csv") == {}
    (tmp_path / "history.csv").write_text("epoch,a\n")
    assert curves.read_history(tmp_path / "history.csv") == {}
    (tmp_path / "history.csv").write_text("epoch,a\n1,\n2,0.5\n")
    history = curves.read_history(tmp_path / "history.csv")
    np.testing.assert_array_equal(history["a"], [np.nan, 0.5])


def test_plots_are_imported_when_they_are_drawn():
    code = "import sys, tf_hqgnn.report.charts; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
