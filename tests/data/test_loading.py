"""From settings to a dataset: every setting is honoured, and real logs come out with their known sizes."""

import bz2
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.config import DataConfig, SplitConfig
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.types import InputError

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
real = pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the project")


def named(dataset, part):
    interactions = getattr(dataset, part)
    return set(zip(dataset.user_ids[interactions.user_index], dataset.item_ids[interactions.item_index]))


def log(path, rows, header="user_id,item_id"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 99)),
    min_size=20,
    max_size=60,
    unique_by=lambda row: row[2],
)


@given(st.lists(st.sampled_from([0, 1, 5, 2**31 - 1])))
def test_sorting_values_with_their_rows_is_a_stable_argsort(values):
    values = np.array(values, np.int32)
    np.testing.assert_array_equal(stable_argsort(values), np.argsort(values, kind="stable"))


@settings(deadline=None, max_examples=30)
@given(
    ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))),
    st.sampled_from(["random", "leave_last_out", "temporal"]),
)
def test_the_order_of_the_rows_does_not_matter(tmp_path_factory, both, method):
    folder = tmp_path_factory.mktemp("order")
    datasets = []
    for name, rows in zip("ab", both):
        path = log(folder / f"{name}.csv", rows, "user_id,item_id,timestamp")
        split = SplitConfig(method=method, valid=0.2, test=0.2)
        try:
            datasets.append(load_dataset(DataConfig(path=path, split=split), seed=3))
        except InputError as error:
            datasets.append(str(error).replace(path, ""))
    if isinstance(datasets[0], str):
        assert datasets[0] == datasets[1]
        return
    parts = [[named(dataset, part) for part in ("train", "valid", "test")] for dataset in datasets]
    assert parts[0] == parts[1]
    assert sum(map(len, parts[0])) == len(set.union(*parts[0])) == datasets[0].report.kept


def test_settings_are_honoured(tmp_path):
    rows = [(user, item, 5 if item != 9 else 1) for user in range(6) for item in range(10)] + [(99, 1, 5)]
    config = DataConfig(
        path=log(tmp_path / "log.txt", [*rows, ("", 1, 5), (0, 0, 5)], "user_id,item_id,rating"),
        format="csv",
        min_rating=2,
        k_core=5,
        max_bad_rows=1,
        split=SplitConfig(valid=0.0, test=0.3),
        quarantine_path=str(tmp_path / "bad.csv"),
        items_path=log(tmp_path / "items.csv", [(1, "One"), (77, "Unseen")], "item_id,title"),
    )
    dataset = load_dataset(config, seed=1)
    assert (dataset.num_users, dataset.num_items) == (6, 9)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (6 * 7, 0, 6 * 2)
    report = dataset.report
    assert (report.rows_read, report.kept, report.duplicate, report.filtered, report.num_bad) == (63, 54, 1, 7, 1)
    assert dataset.titles.tolist() == ["", "One", *[""] * 7]
    assert dataset.available is None
    assert (tmp_path / "bad.csv").read_text().endswith('63,missing user_id,",1,5"\n')
    other = load_dataset(config, seed=2)
    assert named(other, "test") != named(dataset, "test")
    assert named(load_dataset(config, seed=1), "test") == named(dataset, "test")


def test_given_files(tmp_path):
    train = [(user, item) for user in range(4) for item in range(10)]
    test = [(0, 20), (0, 3), (7, 20), (7, 21), ("", 5)]
    config = DataConfig(
        train_path=log(tmp_path / "train.csv", train),
        test_path=log(tmp_path / "test.csv", test),
        max_bad_rows=1,
        split=SplitConfig(valid=0.2),
    )
    dataset = load_dataset(config, seed=5)
    assert named(dataset, "test") == {("0", "20"), ("7", "20"), ("7", "21")}
    assert named(dataset, "train") | named(dataset, "valid") == {(str(user), str(item)) for user, item in train}
    assert np.bincount(dataset.valid.user_index).tolist() == [2, 2, 2, 2]
    assert not named(dataset, "train") & named(dataset, "valid")
    report = dataset.report
    assert (report.rows_read, report.kept, report.duplicate, report.filtered, report.num_bad) == (45, 43, 1, 0, 1)
    smaller = load_dataset(config.model_copy(update={"k_core": 3}), seed=5)
    assert (smaller.report.filtered, named(smaller, "test")) == (3, set())
    assert smaller.user_ids.tolist() == ["0", "1", "2", "3"]
    with pytest.raises(InputError, match=r"k_core=30: no interaction is left for training"):
        load_dataset(config.model_copy(update={"k_core": 30}), seed=5)
    strict = config.model_copy(update={"max_bad_rows": 0})
    with pytest.raises(InputError, match=r"test\.csv: 1 bad row, 0 allowed"):
        load_dataset(strict, seed=5)


def test_given_validation_file(tmp_path):
    train = [(user, item) for user in range(4) for item in range(10)]
    files = {"train": train, "valid": [(0, 10), (1, 3), (9, 1)], "test": [(0, 11), (0, 10), (2, 5)]}
    config = DataConfig(**{f"{name}_path": log(tmp_path / f"{name}.csv", rows) for name, rows in files.items()})
    dataset = load_dataset(config, seed=5)
    # A pair belongs to the first file that has it.
    assert named(dataset, "train") == {(str(user), str(item)) for user, item in train}
    assert named(dataset, "valid") == {("0", "10"), ("9", "1")}
    assert named(dataset, "test") == {("0", "11")}
    report = dataset.report
    assert (report.rows_read, report.kept, report.duplicate, report.num_bad) == (46, 43, 3, 0)


def test_bad_rows_of_two_files_count_together(tmp_path):
    paths = {}
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        paths[f"{name}_path"] = log(tmp_path / name / "log.csv", [("u", name), ("", 1), ("u", "")])
    with pytest.raises(InputError, match=r"4 bad rows, 3 allowed: .*train/log\.csv: missing user_id 1 \(line 3\)"):
        load_dataset(DataConfig(**paths, max_bad_rows=3), seed=1)
    dataset = load_dataset(DataConfig(**paths, quarantine_path=str(tmp_path / "bad.csv")), seed=1)
    assert (dataset.report.rows_read, dataset.report.num_bad) == (6, 4)
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 5


def test_no_input():
    with pytest.raises(InputError, match=r"no input: set data\.path, or data\.train_path with data\.test_path"):
        load_dataset(DataConfig(), seed=1)


def test_items_of_another_catalogue(tmp_path):
    config = DataConfig(
        path=log(tmp_path / "log.csv", [("u", "x")]), items_path=log(tmp_path / "items.csv", [("1",)], "item_id")
    )
    with pytest.raises(InputError, match=r"none of its 1 items is among the 1 of the interactions \(such as 'x'\)"):
        load_dataset(config, seed=1)


def test_items(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes(
        b'\xef\xbb\xbfyear,item_id,available,title\r\n1995,007,TRUE,"Kiss, ""Kiss""\nBang"\r\n,7,no,NA\r\n,8, 1 ,\r\n'
    )
    catalogue = read_items(path)
    assert catalogue.item_ids.tolist() == ["007", "7", "8"]
    assert catalogue.title.tolist() == ['Kiss, "Kiss"\nBang', "NA", ""]
    assert catalogue.available.tolist() == [True, False, True]
    assert catalogue.category is None
    aligned = catalogue.align(np.array(["7", "x"], object))
    assert (aligned.title.tolist(), aligned.available.tolist()) == (["NA", ""], [False, True])


ITEM_ERRORS = {
    "duplicate": (b"item_id\na\n\nb\na\n", r"line 5: item_id 'a' came before in line 2"),
    "missing": (b"item_id,title\na,A\n,B\n", r"line 3: missing item_id"),
    "columns": (b"item_id,title\na,A,B\n", r"line 2: 3 columns; expected 2 as in the header"),
    "bytes": (b"item_id,title\na,\xff\n", r"line 2: undecodable bytes; expected UTF-8"),
    "quoting": (b'item_id,title\na,"A"B\n', r"line 2: broken quoting"),
    "available": (b"item_id,available\na,maybe\n", r"line 2: available is 'maybe'; expected true, false"),
    "no id": (b"id,title\na,A\n", r"no column item_id; expected item_id and .*found: id, title"),
    "twice": (b"item_id,item_id\na,A\n", r"column item_id appears more than once"),
    "empty": (b"\n", r"the file is empty; expected a header with item_id"),
}


@pytest.mark.parametrize(("content", "message"), ITEM_ERRORS.values(), ids=ITEM_ERRORS)
def test_unusable_items(tmp_path, content, message):
    (tmp_path / "items.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_items(tmp_path / "items.csv")


def test_items_that_are_not_there(tmp_path):
    with pytest.raises(
        InputError, match=r"absent\.csv: no such file; expected a file of items, check data\.items_path"
    ):
        read_items(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a directory; expected a file of items"):
        read_items(tmp_path)


@real
@pytest.mark.parametrize(
    ("folder", "users", "items", "interactions"),
    [("beauty", 22_363, 12_101, 198_502), ("toys", 19_412, 11_924, 167_597), ("ml-100k", 943, 1_682, 100_000)],
)
def test_real_logs(folder, users, items, interactions):
    config = DataConfig(path=str(REAL_DATA / folder / "interactions.csv"), k_core=0 if folder == "ml-100k" else 5)
    dataset = load_dataset(config, seed=2020)
    assert (dataset.num_users, dataset.num_items, dataset.report.kept) == (users, items, interactions)
    assert len(dataset.train) + len(dataset.valid) + len(dataset.test) == interactions
    # Nobody has fewer than 3: everybody has at least one interaction in each part.
    for part in (dataset.train, dataset.valid, dataset.test):
        assert np.bincount(part.user_index, minlength=users).min() >= 1


@real
def test_real_items():
    folder = REAL_DATA / "ml-100k"
    config = DataConfig(path=str(folder / "interactions.csv"), items_path=str(folder / "items.csv"))
    dataset = load_dataset(config, seed=1)
    row = int(np.searchsorted(dataset.item_ids, "1"))
    assert (dataset.titles[row], dataset.categories[row]) == ("Toy Story", "Animation")


NOTES = {
    "ratings": (
        "rating",
        [1, -1, 0.5],
        {},
        ["ratings go from -1 to 1, and every row counts as positive; set data.min_"],
    ),
    "ratings with a threshold": ("rating", [1, -1, 0.5], {"min_rating": 0.5}, []),
    "weights": (
        "weight",
        [2, 3, 4],
        {},
        ["weights go from 2 to 4"],
    ),
    "times": ("timestamp", [2, 3, 4], {}, []),
}


@pytest.mark.parametrize(("column", "values", "config", "beginnings"), NOTES.values(), ids=NOTES)
def test_a_read_says_what_may_surprise(tmp_path, column, values, config, beginnings):
    rows = [("u", n, value) for n, value in enumerate(values)]
    path = log(tmp_path / "log.csv", rows, f"user_id,item_id,{column}")
    report = load_dataset(DataConfig(path=path, **config), seed=1).report
    assert [note[: len(beginning)] for note, beginning in zip(report.notes, beginnings)] == beginnings
    assert len(report.notes) == len(beginnings)
    assert ReadReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_range_of_ratings_is_that_of_all_files_and_of_all_rows(tmp_path):
    header = "user_id,item_id,rating"
    train = log(tmp_path / "train.csv", [("u", 1, 3), ("u", 1, -2), ("u", 2, 3), ("v", 1, 3), ("v", 2, 3)], header)
    test = log(tmp_path / "test.csv", [("u", 7, 9.5)], header)
    report = load_dataset(DataConfig(train_path=train, test_path=test), seed=1).report
    assert report.ratings == (-2, 9.5)


def test_a_report_of_version_0_1_is_read():
    values = {"rows_read": 4, "kept": 2, "duplicate": 1, "filtered": 0, "bad": {"x": {"count": 1, "first_lines": [3]}}}
    files = [{"name": "a", "span": None, "rows": 4, "columns": ["user_id", "item_id"], "types": {}, "kinds": {}}]
    for old in (values, values | {"files": files}):
        report = ReadReport.from_json(old)
        assert (report.rows_read, report.num_bad, report.notes) == (4, 1, ())


ITEM_DIALECTS = {
    "semicolons": "item_id;title;available\n1;A, B;1,0\n2;;\n",
    "tabs": "item_id\ttitle\tavailable\n1\tA, B\t1.0\n2\t\t\n",
    "bars": "item_id|title|available\n1|A, B|TRUE\n2||\n",
    "quotes": 'item_id,title,available\n1,"A, B",1\n2,,\n',
    "RecBole": "item_id:token\ttitle:token_seq\tavailable:float\n1\tA, B\t1.0\n2\t\t\n",
    "old Mac": "item_id;title;available\r1;A, B;yes\r2;;\r",
    "Excel": "sep=;\r\nitem_id;title;available\r\n1;A, B;1\r\n2;;\r\n",
}


@pytest.mark.parametrize("content", ITEM_DIALECTS.values(), ids=ITEM_DIALECTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress], ids=["plain", "gzip", "bzip2"])
def test_items_in_the_dialects_of_a_log(tmp_path, content, compress):
    (tmp_path / "items.csv").write_bytes(compress(content.encode()))
    items = read_items(tmp_path / "items.csv")
    assert (items.item_ids.tolist(), items.title.tolist()) == (["1", "2"], ["A, B", ""])
    assert items.available.tolist() == [True, True]


AVAILABLE = {
    "1.0": True,
    "1": True,
    "true": True,
    "Y": True,
    "": True,
    "0.0": False,
    "0": False,
    "No": False,
    "f": False,
    # As programs write what isn't known.
    "NaN": True,
    "None": True,
    "NA": True,
    "null": True,
}


@pytest.mark.parametrize(("text", "expected"), AVAILABLE.items())
def test_availability(tmp_path, text, expected):
    (tmp_path / "items.csv").write_text(f"item_id,available,title\na,{text},A\n")
    assert read_items(tmp_path / "items.csv").available.tolist() == [expected]


@pytest.mark.parametrize("text", ["maybe", "2", "-1", "0.5", "inf", "1,0", "\u0661", "1_0"])
def test_no_availability(tmp_path, text):
    (tmp_path / "items.csv").write_text(f'item_id,available\na,"{text}"\n')
    with pytest.raises(InputError, match=r"items\.csv line 2: available is .*; expected true, false, 1, 0, yes, no or"):
        read_items(tmp_path / "items.csv")


def test_items_that_are_cut_off_are_refused(tmp_path):
    rows = "".join(f"{n},title {n * n}\n" for n in range(5000))
    data = gzip.compress(f"item_id,title\n{rows}".encode())
    (tmp_path / "items.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"items\.csv\.gz: the gzip data ends too early"):
        read_items(tmp_path / "items.csv.gz")


def test_a_quote_is_text_in_items_separated_by_tabs(tmp_path):
    (tmp_path / "items.tsv").write_text('item_id\ttitle\n1\t"Alien\n2\tHeat\n3\t12" Rule"\n')
    assert read_items(tmp_path / "items.tsv").title.tolist() == ['"Alien', "Heat", '12" Rule"']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "1,Toy Story,Comedy\n",
            "no column item_id; .*rename the column in the header, or put a header before the first",
        ),
        ("item_id, title\n1, A\n", "the header has ' title'; blanks belong to names and ids"),
        ("item_id,title\n1,A\nitem_id,title\n", r"line 3: the header is repeated; expected it once, before the first"),
        ('"item_id";"a,b,c,d";title\n1;x\n', r"line 2: 2 columns; expected 3 as in the header"),
    ],
)
def test_what_is_wrong_with_a_header_of_items_is_named(tmp_path, content, message):
    (tmp_path / "items.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_items(tmp_path / "items.csv")
