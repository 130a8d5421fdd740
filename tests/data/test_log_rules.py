"""What a log says besides who took what: weights, events, dislikes, age, and what its columns are called."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tf_hqgnn.config import Config, DataConfig
from tf_hqgnn.data.any_log import read_log
from tf_hqgnn.data.loading import extend_dataset, load_dataset, make_dataset, split_log
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.types import InputError

DAY = 86_400
START = 1_700_000_000
ALL = {"split": {"valid": 0, "test": 0}}


def dataset_of(text, path, **config):
    """The dataset of a log whose rows are separated by blanks."""
    path.write_text(text.replace(" ", "\n") + "\n")
    return load_dataset(DataConfig(path=str(path), **(ALL | config)), seed=1)


def weights_of(dataset):
    """By user and item."""
    return by_pair(dataset, dataset.train, dataset.train.weight)


def by_pair(dataset, pairs, values=None):
    names = list(zip(dataset.user_ids[pairs.user_index], dataset.item_ids[pairs.item_index]))
    return set(names) if values is None else dict(zip(names, values.tolist()))


def graph_of(dataset):
    return InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items, dataset.disliked)


REPEATED = "user_id,item_id u,i u,i u,i v,i v,j v,j"
WEIGHTED = "user_id,item_id,weight u,i,3 v,i,1 v,j,2"


def test_a_weighted_pair_equals_repeated_pairs(tmp_path):
    repeated, weighted = (dataset_of(text, tmp_path / "log.csv") for text in (REPEATED, WEIGHTED))
    assert weights_of(repeated) == weights_of(weighted) == {("u", "i"): 3, ("v", "i"): 1, ("v", "j"): 2}
    one, other = graph_of(repeated), graph_of(weighted)
    np.testing.assert_array_equal(one.weight, other.weight)
    assert one.item_strength.tolist() == [2, 1]  # of mean weight 2: 3 + 1, and 2


def test_an_adjacency_holds_the_weights_and_degrees_are_their_sums(tmp_path):
    graph = graph_of(dataset_of(WEIGHTED, tmp_path / "log.csv"))
    edges = np.array([[3, 0], [1, 2]]) / 2
    dense = np.block([[np.zeros((2, 2)), edges], [edges.T, np.zeros((2, 2))]])
    scale = dense.sum(axis=1) ** -0.5
    sparse = graph.normalized_adjacency(dtype=tf.float64).to_sparse_tensor()
    np.testing.assert_allclose(tf.sparse.to_dense(sparse), scale[:, None] * dense * scale, rtol=1e-6)
    for exponent in (0.25, 0.5, 0.8):
        adjacency = graph.normalized_adjacency(exponent, tf.float64)
        norm = np.linalg.norm(tf.sparse.to_dense(adjacency.to_sparse_tensor()), 2)
        assert norm <= adjacency.norm_bound * (1 + 1e-6)
    graph.save(tmp_path / "graph.npz")
    loaded = InteractionGraph.load(tmp_path / "graph.npz")
    np.testing.assert_array_equal(loaded.weight, graph.weight)
    np.testing.assert_array_equal(loaded.to_matrix().toarray(), edges)


@pytest.mark.parametrize("size", [0.001, 1000])
@pytest.mark.parametrize("rows", ["u,i{0} v,i{0} v,j{0}", "u,i{0} u,i{0} u,i{0} v,i{0} v,j{0}"], ids=["once", "thrice"])
def test_equal_weights_change_nothing(tmp_path, rows, size):
    plain = graph_of(dataset_of(f"user_id,item_id {rows.format('')}", tmp_path / "log.csv"))
    weighted = graph_of(dataset_of(f"user_id,item_id,weight {rows.format(f',{size}')}", tmp_path / "log.csv"))
    for name in ("weight", "user_strength", "item_strength", "indices"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(weighted, name))


EVENTS = "user_id,item_id,event,timestamp u,i,view,1 u,i,cart,3 u,i,view,5 u,j,buy,2 v,i,view,4"
SCALE = {"view": 1, "cart": 3, "buy": 5}


@pytest.mark.parametrize(
    ("combine", "weight", "rule"),
    [("sum", 5, "their sum"), ("largest", 3, "the heaviest of them"), ("last", 1, "the last of them")],
)
def test_events_have_weights_and_several_rows_become_one(tmp_path, combine, weight, rule):
    dataset = dataset_of(EVENTS, tmp_path / "log.csv", event_weights=SCALE, combine=combine)
    assert weights_of(dataset) == {("u", "i"): weight, ("u", "j"): 5, ("v", "i"): 1}
    times = by_pair(dataset, dataset.train, dataset.train.timestamp)
    assert times["u", "i"] == {"sum": 1, "largest": 3, "last": 5}[combine]
    text = "\n".join(dataset.report.notes)
    assert rule in text
    assert f"data.combine={combine}" in text
    assert "buy 5 (1 rows), cart 3 (1 rows), view 1 (3 rows)" in text
    dataset.save(tmp_path / "saved")
    loaded = SplitDataset.load(tmp_path / "saved")
    assert weights_of(loaded) == weights_of(dataset)
    assert loaded.report == dataset.report
    assert loaded.fingerprint() == dataset.fingerprint()


def test_events_are_not_read_unless_the_settings_ask_for_them(tmp_path):
    dataset = dataset_of(EVENTS, tmp_path / "log.csv")
    assert weights_of(dataset) == {("u", "i"): 3, ("u", "j"): 1, ("v", "i"): 1}
    assert "not used: event" in dataset.report.summary


def test_older_rows_weigh_less(tmp_path):
    rows = [("u", "i", 0), ("u", "i", 10), ("v", "i", 5), ("v", "j", 10)]
    text = "\n".join(f"{user},{item},{START + day * DAY}" for user, item, day in rows)
    dataset = dataset_of(f"user_id,item_id,timestamp\n{text}", tmp_path / "log.csv", half_life_days=5)
    expected = {("u", "i"): 0.25 + 1, ("v", "i"): 0.5, ("v", "j"): 1}
    assert weights_of(dataset) == pytest.approx(expected)
    # A log that goes on: what was known has become older.
    path = tmp_path / "later.csv"
    path.write_text(f"user_id,item_id,timestamp\nv,k,{START + 15 * DAY}\nv,j,{START + 15 * DAY}\n")
    config = DataConfig(half_life_days=5, **ALL)
    later = read_log(path, "later", config, BadRowLog()).table
    extended = extend_dataset(dataset, later, None, BadRowLog(), LogRules.of(config))
    halved = {pair: weight / 2 for pair, weight in expected.items()}
    assert weights_of(extended) == pytest.approx(halved | {("v", "j"): 1.5, ("v", "k"): 1})


def test_a_half_life_of_infinity_changes_nothing(tmp_path):
    text = "\n".join(f"u{n % 7},i{n % 5},{START + n * DAY}" for n in range(30))
    plain, endless = (
        dataset_of(f"user_id,item_id,timestamp\n{text}", tmp_path / "log.csv", half_life_days=days)
        for days in (None, np.inf)
    )
    assert plain.fingerprint() == endless.fingerprint()
    assert plain.report == endless.report


RATED = (
    "user_id,item_id,rating,timestamp u,i,5,1 u,j,1,2 u,k,3,3 v,j,4,4 v,i,1,5 v,k,5,6 w,i,1,7 x,k,2,1 x,k,5,2 y,k,5,1 "
    "y,k,1,2"
)


def test_low_ratings_are_dislikes(tmp_path):
    dataset = dataset_of(RATED, tmp_path / "log.csv", min_rating=4, negative_rating=3)
    assert by_pair(dataset, dataset.train) == {("u", "i"), ("v", "j"), ("v", "k"), ("x", "k")}
    # The last row of a pair decides; who only dislikes is known all the same.
    assert by_pair(dataset, dataset.disliked) == {("u", "j"), ("v", "i"), ("w", "i"), ("y", "k")}
    everything = {tuple(row.split(",")[:2]) for row in RATED.split()[1:]}
    assert by_pair(dataset, dataset.history()) == everything
    indptr, indices = dataset.masked(dataset.train)
    assert len(indices) == len(dataset.train) + len(dataset.disliked)
    report = dataset.report
    assert (report.rows_read, report.kept, report.filtered) == (11, 4, 7)
    assert "ratings below 3: 4 pairs are disliked" in report.notes
    dataset.save(tmp_path / "saved")
    loaded = SplitDataset.load(tmp_path / "saved")
    assert by_pair(loaded, loaded.history()) == everything
    assert by_pair(loaded, loaded.disliked) == by_pair(dataset, dataset.disliked)
    graph = graph_of(dataset)
    graph.save(tmp_path / "graph.npz")
    for one, other in zip(InteractionGraph.load(tmp_path / "graph.npz").masked(), (indptr, indices)):
        np.testing.assert_array_equal(one, other)


def test_a_later_log_may_change_a_mind():
    config = DataConfig(negative_rating=3, **ALL)
    tables = []
    for rows in ("u,i,5 u,j,1 v,i,4 v,j,4", "u,i,1 u,j,5"):
        frame = pd.read_csv(io.StringIO(f"user_id,item_id,rating {rows}".replace(" ", "\n")))
        tables.append(read_log(frame, "log", config, BadRowLog()).table)
    before = make_dataset(*split_log(tables[0], config, seed=1))
    after = extend_dataset(before, tables[1], None, BadRowLog(), LogRules.of(config))
    assert by_pair(after, after.train) == {("u", "j"), ("v", "i"), ("v", "j")}
    assert by_pair(after, after.disliked) == {("u", "i")}
    assert by_pair(after, after.history()) == {("u", "i"), ("u", "j"), ("v", "i"), ("v", "j")}


def test_what_counts_as_taken(tmp_path):
    dataset = dataset_of(EVENTS, tmp_path / "log.csv", exclude_events=["buy", "cart"])
    assert by_pair(dataset, dataset.history()) == {("u", "i"), ("u", "j")}
    assert by_pair(dataset, dataset.train) == {("u", "i"), ("u", "j"), ("v", "i")}
    # An event that nothing is learnt from is taken all the same.
    unlearnt = dataset_of(EVENTS, tmp_path / "log.csv", event_weights=SCALE | {"view": 0})
    assert by_pair(unlearnt, unlearnt.train) == {("u", "i"), ("u", "j")}
    zero = dataset_of("user_id,item_id,weight u,i,1 u,j,0 v,j,2", tmp_path / "log.csv")
    assert by_pair(zero, zero.train) == {("u", "i"), ("v", "j")}
    assert by_pair(zero, zero.history()) == {("u", "i"), ("u", "j"), ("v", "j")}


def test_a_later_log_may_lack_an_event():
    config, later = DataConfig(exclude_events=("buy",)), pd.read_csv(io.StringIO(EVENTS.replace(" ", "\n")))
    later = later[later["event"] != "buy"]
    assert len(read_log(later, "later", config, BadRowLog(), is_later=True).table) == 2
    with pytest.raises(InputError, match="names 'buy', which the log doesn't have"):
        read_log(later, "log", config, BadRowLog())


def test_held_out_rows_are_taken_too(tmp_path):
    rows = " ".join(f"u{n},i{m}" for n in range(4) for m in range(10))
    dataset = dataset_of(f"user_id,item_id {rows}", tmp_path / "log.csv", split={"valid": 0.2, "test": 0.2})
    assert len(dataset.valid) == len(dataset.test) == 8
    assert len(dataset.history()) == 40


NAMES = {"user_id": "customer", "item_id": "sku", "timestamp": "ts", "event": "what"}
COLUMNS = {
    "customer": ["u", "u", "v"],
    "sku": ["i", "j", "i"],
    "ts": [START, START + DAY, START],
    "what": ["view", "buy", "view"],
    "price": [1.0, 2.0, 3.0],
}
TABLE = pa.table(COLUMNS)


def write_tfrecord(path):
    def feature(value):
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in TABLE.to_pylist():
            features = tf.train.Features(feature={name: feature(value) for name, value in row.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())


def write_inter(path):
    kinds = {"customer": "token", "sku": "token", "ts": "float", "what": "token", "price": "float"}
    rows = [
        [f"{name}:{kind}" for name, kind in kinds.items()],
        *([*map(str, row.values())] for row in TABLE.to_pylist()),
    ]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


FILES = {
    "log.csv": lambda path: TABLE.to_pandas().to_csv(path, index=False),
    "no-suffix": lambda path: TABLE.to_pandas().to_csv(path, index=False),
    "semicolons.csv": lambda path: TABLE.to_pandas().to_csv(path, index=False, sep=";"),
    "odd-rows.csv": lambda path: path.write_text(TABLE.to_pandas().to_csv(index=False) + ",i,1,buy,2\n"),
    "log.parquet": lambda path: pq.write_table(TABLE, path),
    "log.inter": write_inter,
    "log.tfrecord": write_tfrecord,
}


@pytest.mark.parametrize("name", FILES)
def test_columns_have_other_names_in_files(tmp_path, name):
    FILES[name](tmp_path / name)
    config = DataConfig(columns=NAMES, event_weights={"view": 1, "buy": 4}, max_bad_rows=1, **ALL)
    for given in (config.model_copy(update={"path": str(tmp_path / name)}), None):
        if given is not None:
            dataset = load_dataset(given, seed=1)
        else:
            bare = config.model_copy(update={"columns": {}})
            table = read_log(tmp_path / name, "log", bare, BadRowLog(1), NAMES).table
            dataset = make_dataset(*split_log(table, bare, seed=1))
        assert weights_of(dataset) == {("u", "i"): 1, ("u", "j"): 4, ("v", "i"): 1}
        assert dataset.train.timestamp.tolist() == [START, START + DAY, START]
        assert "not used: price" in dataset.report.summary


def test_events_may_be_numbers():
    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["i", "i"], "event": [1, 2]})
    table = read_log(frame, "log", DataConfig(event_weights={"1": 1, "2": 3}, **ALL), BadRowLog()).table
    assert table.weight.tolist() == [1, 3]


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table], ids=["pandas", "arrow"])
def test_columns_have_other_names_in_tables(make):
    config = DataConfig(columns=NAMES, event_weights={"view": 1, "buy": 4}, **ALL)
    table = read_log(make(COLUMNS), "log", config, BadRowLog()).table
    assert table.weight.tolist() == [1, 4, 1]
    assert "not used: price" in table.report.summary


def test_events_that_count_as_taken_are_named_as_on_the_command_line():
    config = Config().with_values({"data.exclude_events": "cart, buy", "data.item_features": "genres, year"})
    assert config.data.exclude_events == ("cart", "buy")
    assert config.data.item_features == ("genres", "year")


@pytest.mark.parametrize("weights", [(1e-38, 1e38, 1), (1e-320, 1, 1), (1e38, 1e38, 1e-30)])
def test_weights_that_are_far_apart_make_a_graph(tmp_path, weights):
    rows = " ".join(f"u,i{place},{weight}" for place, weight in enumerate(weights))
    graph = graph_of(dataset_of(f"user_id,item_id,weight {rows} v,i0,1", tmp_path / "log.csv"))
    assert (graph.weight >= np.finfo(np.float32).tiny).all()
    adjacency = graph.normalized_adjacency().to_sparse_tensor()
    assert np.isfinite(adjacency.values).all()


def test_a_column_may_be_two_things(tmp_path):
    dataset = dataset_of(RATED, tmp_path / "log.csv", columns={"weight": "rating"}, min_rating=4)
    assert weights_of(dataset) == {("u", "i"): 5, ("v", "j"): 4, ("v", "k"): 5, ("x", "k"): 5, ("y", "k"): 5}


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        (EVENTS, {"event_weights": {"view": 1, "cart": 2}}, "no weight for 'buy'; add it, with 0"),
        (EVENTS, {"exclude_events": ["bought"]}, "names 'bought', which the log doesn't have; found: buy, cart, view"),
        (WEIGHTED, {"event_weights": {"view": 1}}, "data.event_weights needs a column event"),
        (WEIGHTED, {"negative_rating": 2}, "negative_rating=2.0 needs a column rating"),
        (WEIGHTED, {"half_life_days": 3}, "half_life_days=3.0 needs a column timestamp"),
        (WEIGHTED, {"combine": "last"}, "combine=last needs a column timestamp"),
        (EVENTS, {"half_life_days": 3}, "these only count; leave it out, or write times"),
        (WEIGHTED.replace("u,i,3", "u,i,-3"), {}, r"weight below 0 1 \(line 2\)"),
        # The sum of the pair is above 0.
        (WEIGHTED.replace("v,i,1", "u,i,-1"), {}, r"weight below 0 1 \(line 3\)"),
        (WEIGHTED.replace(",2", ",-2").replace(",1", ",-1").replace(",3", ",-3"), {}, "expected weights of 0 and more"),
        (WEIGHTED, {"columns": {"timestamp": "when"}}, "no column when, which data.columns names for timestamp"),
        (WEIGHTED, {"columns": {"item_id": "sku"}}, "no column sku; expected at least user_id and sku"),
        ("0 1 2 3 1 0 2 0", {"columns": {"item_id": "sku"}, "format": "adjacency"}, "have no columns to rename"),
        (RATED, {"negative_rating": 9}, "every rating is below negative_rating=9"),
        (EVENTS.replace("cart", "", 1), {"event_weights": SCALE}, r"missing event 1 \(line 3\)"),
    ],
)
def test_what_does_not_fit_the_log_is_said(tmp_path, text, config, message):
    with pytest.raises(InputError, match=message):
        dataset_of(text, tmp_path / ("log.txt" if "format" in config else "log.csv"), **config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.columns": {"user": "customer"}}, "'user' is not a column of the log; expected user_id"),
        ({"data.negative_rating": 4, "data.min_rating": 3}, "can't be liked and disliked"),
        ({"data.negative_rating": float("nan")}, "finite"),
        ({"data.min_rating": float("inf")}, "finite"),
        ({"data.columns": {"user_id": "item_id"}}, "user_id and item_id would both be the column 'item_id'"),
        ({"data.columns": {"user_id": "x", "item_id": "x"}}, "user_id and item_id would both be the column 'x'"),
        ({"data.columns": {"weight": "user_id"}}, "user_id and weight would both be"),
        ({"data.columns": {"user_id": ""}}, "the name for user_id is empty"),
        ({"data.event_weights": {"view": 1e300}}, "less than or equal to"),
        ({"data.exclude_events": []}, "exclude_events is empty"),
        ({"data.event_weights": {"view": -1}}, "greater than or equal to 0"),
        ({"data.event_weights": {"view": True}}, "came as true"),
        ({"data.half_life_days": 0}, "greater than 0"),
        ({"data.combine": "mean"}, "'sum', 'largest' or 'last'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config().with_values(settings)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_items_have_the_same_names(tmp_path, suffix):
    FILES["log.csv"](tmp_path / "log.csv")
    items = pa.table({"sku": ["i", "j"], "title": ["One", "Two"], "year": ["1999", "2001"]})
    path = tmp_path / f"items.{suffix}"
    if suffix == "csv":
        items.to_pandas().to_csv(path, index=False)
    else:
        pq.write_table(items, path)
    config = DataConfig(
        path=str(tmp_path / "log.csv"), items_path=str(path), columns=NAMES, item_features=["year:category"], **ALL
    )
    dataset = load_dataset(config, seed=1)
    assert dataset.titles.tolist() == ["One", "Two"]
    assert dataset.item_features.ids.tolist() == ["i", "j"]
