"""Tables are never taken for lists, and lists stay lists."""

import lzma
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.types import InputError

GOWALLA = Path(__file__).parents[3] / "shared" / "data" / "gowalla"
FILES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TABLES = {
    "MovieLens 100K": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t377\t1\t878887116\n",
    "one row": "196\t242\t3\t881250949\n",
    "CRLF": "196\t242\t3\t881250949\r\n186\t302\t3\t891717742\r\n",
    "blanks": "196 242 3 881250949\n186 302 3 891717742\n",
    "triples": "a x 5\nb y 3\nb z 1\n",
    "pairs with tabs": "196\t242\n186\t302\n",
    "commas": "196,242,3\n186,302,3\n",
    "semicolons": "196;242;3\n186;302;3\n",
    "bars": "1|24|M|technician|85711\n2|53|F|other|94043\n",
    "other names": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n",
    "a header and pairs": "user item\n1 2\n3 4\n",
    "a header of several words": "user id item id rating\n1 2 3\n",
    "a header and lists": "user items\n0 1 2\n1 3 4 5\n",
    "a header and words": "uid iid\nalice book1\nbob book2\n",
    "KONECT": "% bip weighted\n1 1 5 874965758\n1 2 3 876893171\n",
    "SNAP": "# FromNodeId ToNodeId\n0 1\n0 2\n",
    "lists below a comment": "# lightgcn\n0 1 2\n1 3 4 5\n",
    "a short row": "196 242 3 881250949\n186 302 3 891717742\n22 377 1\n",
    "a short row, sorted": "1 242 3 881250949\n2 302 3 891717742\n3 377\n4 7\n",
    "small numbers, mostly of one width": "1 5 3\n2 7 1\n3 9 4\n4 8\n",
    "pairs": "0 1\n0 2\n1 3\n",
    "a map of ids": "385 0\n1017 1\n2044 2\n",
    "optional times": "u1 i1 5 2024-01-01 10:00:00\nu2 i1 3 2024-01-03\n",
    "titles": "1 Toy Story 5\n2 Heat 4\n",
    "one row of blanks": "196 242 3 881250949\n",
    "fixed width": "  196   242  3\n    6    302  3 1\n",
    "Hive": "1\x012 3\x013\n2\x013\x014\n",
    "libsvm": "1 12:1 15:1\n2 3:1\n",
    "prose": "This is a README file\nIt says something about things\nand more\n",
    "YAML": "a: 1\nb: 2 3\n",
    "SQL": "INSERT INTO t VALUES (1, 2, 3)\nINSERT INTO t VALUES (1, 2)\n",
    "words": "ann tea milk\nbob tea\n",
    "users alone": "0\n1\n2\n",
    "letters before some numbers": "u1 i7 5\nu2 i9\nu3 i1 4 3\n",
    "negative numbers": "0 -1 -2\n1 -3\n2\n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("name", ["u.data", "log.txt", "log"])
def test_a_table_without_a_known_header_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    with pytest.raises(InputError, match=rf"{name}: (a table|can't tell|the first line is a comment)") as caught:
        detect_format(tmp_path / name)
    assert "data.format" in str(caught.value) or "take the comments out" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_refusal_says_both_ways_on(tmp_path):
    (tmp_path / "u.data").write_text(TABLES["MovieLens 100K"])
    with pytest.raises(InputError) as caught:
        read_interactions(tmp_path / "u.data")
    message = str(caught.value)
    assert "begins with '196\\t242\\t3\\t881250949'" in message
    assert "put a header with user_id and item_id before it" in message
    assert "set data.format=adjacency if each line is a user followed by its items" in message


def test_data_in_the_place_of_the_header_is_named(tmp_path):
    (tmp_path / "u.csv").write_text("196,242,3,881250949\n")
    with pytest.raises(InputError, match=r"the first line \(196, 242, 3, 881250949\) is data, and not a header; put"):
        read_interactions(tmp_path / "u.csv")


def test_double_colons_are_named(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
    with pytest.raises(InputError, match=r"a table separated by ::, .*replace :: by a tab"):
        detect_format(tmp_path / "ratings.dat")


def test_with_its_header_the_table_is_read(tmp_path):
    (tmp_path / "u.data").write_text("user_id\titem_id\trating\ttimestamp\n" + TABLES["MovieLens 100K"])
    table = read_interactions(tmp_path / "u.data")
    assert (table.user_ids.tolist(), table.item_ids.tolist()) == (["186", "196", "22"], ["242", "302", "377"])


def test_whoever_says_that_they_are_lists_is_believed(tmp_path):
    (tmp_path / "near.txt").write_text("a\tx\ty\nb\ty\tz\n")
    assert len(read_interactions(tmp_path / "near.txt", "adjacency")) == 4


def test_a_header_is_no_list_even_for_who_says_so(tmp_path):
    for header in ("user_id\titem_id", "item_id:token user_id:token", "user_id item_id rating"):
        (tmp_path / "log.txt").write_text(f"{header}\na x 1\n")
        with pytest.raises(InputError, match=r"the first line names columns, so this is a table and not lists; set"):
            read_interactions(tmp_path / "log.txt", "adjacency")


LISTS = {
    "LightGCN": "0 1 2 3\n1 4\n2 5 6\n",
    "CRLF": "0 1 2 3\r\n1 4\r\n2 5 6\r\n",
    "users without items": "0 1 2\n1\n2 3 4\n",
    "a user without items first": "0\n1 2 3\n2 3 4\n",
    "blank lines": "\n0 1 2 3\n\n1 4\n",
    "one user of many items": "0 " + " ".join(map(str, range(1, 20))) + "\n",
    "a first line beyond what is looked at": "0 " + " ".join(map(str, range(20_000))) + "\n1 3 4\n",
    "one item each": "0 1\n1 4\n2 1\n",
    "letters before numbers": "u1 i7 i8\nu2 i9\nu3 i1 i2 i3\n",
    "CR": "0 1 2 3\r1\r2 5\r",
    "blanks at the end": "0 1 2 3 \n1  \n2 5\t\n",
    "users left out": "0 1 2\n1 3\n4 2 7 8\n5 1 2 3 9\n",
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_lists_are_told(tmp_path, content):
    (tmp_path / "train.txt").write_text(content, newline="")
    assert detect_format(tmp_path / "train.txt") == "adjacency"
    rows = [line.split() for line in content.splitlines()]
    expected = {(row[0], item) for row in rows if row for item in row[1:]}
    table = read_interactions(tmp_path / "train.txt")
    inner = table.interactions
    assert set(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index])) == expected


@FILES
@given(
    st.lists(st.lists(st.integers(0, 10**10).map(str), min_size=3, max_size=3), min_size=2, max_size=20),
    st.sampled_from(["\t", ",", ";", "|", "::", " "]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_no_table_of_numbers_is_taken_for_lists(tmp_path, rows, separator, end):
    (tmp_path / "table").write_text("".join(separator.join(row) + end for row in rows), newline="")
    with pytest.raises(InputError):
        detect_format(tmp_path / "table")


@FILES
@given(st.lists(st.lists(st.integers(0, 10**7).map(str), max_size=60), min_size=5, max_size=20))
def test_lists_of_many_lengths_are_lists(tmp_path, items):
    if len({len(row) for row in items}) < 0.7 * len(items):
        return
    text = "".join(f"{' '.join([str(user), *row])}\n" for user, row in enumerate(items))
    (tmp_path / "lists").write_text(text)
    assert detect_format(tmp_path / "lists") == "adjacency"


@pytest.mark.skipif(not GOWALLA.exists(), reason=f"{GOWALLA} isn't there")
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_the_lists_that_people_publish_are_told(tmp_path, end):
    for name in ("train", "test"):
        taken = {}
        for line in (GOWALLA / f"{name}.csv").read_text().splitlines()[1:50_000]:
            user, item = line.split(",")
            taken.setdefault(user, []).append(item)
        text = "".join(f"{' '.join([user, *row])}{end}" for user, row in taken.items())
        (tmp_path / f"{name}.txt").write_text(text, newline="")
        assert detect_format(tmp_path / f"{name}.txt") == "adjacency"


FOREIGN = {
    "HTML": (b"<!DOCTYPE html>\n<html><body>Not found here</body>\n</html>\n", "HTML or XML; download the file"),
    "XML": (b"<?xml version='1.0'?>\n<a b='c'>d</a>\n", "HTML or XML"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "PDF": (b"%PDF-1.4\n1 0 obj\n", "a PDF document; export"),
    "RTF": (b"{\\rtf1\\ansi hello world}", "an RTF document"),
    "Matrix Market": (b"%%MatrixMarket matrix coordinate integer general\n943 1682 3\n1 1 5\n", "a sparse matrix"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 40, r"an old Excel workbook \(\.xls\)"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00]\x94(K\x01K\x02e.", "a pickle of Python"),
    "NumPy": (b"\x93NUMPY\x01\x00v\x00{}", "an array of NumPy"),
    "JSON": (b"[1,2,3]\n", "JSON"),
    "LZMA": (lzma.compress(b"user_id,item_id\nu,i\n" * 99, lzma.FORMAT_ALONE), r"compressed with LZMA \(\.lzma\)"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("name", ["log", "log.txt", "log.csv", "log.inter"])
def test_what_is_no_table_at_all_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: the content is .*{message}"):
        read_interactions(tmp_path / name)


HEADERS = {
    "user_id::item_id\n1::2\n": ("log.dat", "replace :: by a tab"),
    "user_id item_id\n1 2\n": ("log", "a table separated by blanks, .*separate its columns by commas"),
    "user_id item_id\n1 2\n ": ("log.csv", "expected a column for each name, separated by commas"),
    "user_id:token,item_id:token\n1,2\n": ("log.inter", r"expected a column for each name, .*\(\.inter: tabs\)"),
    "# a comment\nuser_id,item_id\n1,2\n": ("log.csv", "a comment isn't read as a header"),
    "#user_id,item_id\n1,2\n": ("log.csv", "a comment isn't read as a header: take the comment, or its sign, out"),
    "user_id , item_id\nu , i\n": ("log.csv", "blanks belong to names and ids"),
    "user_id,item_id, rating\nu,i,5\n": ("log.csv", "the header has ' rating'; blanks belong to names"),
}


@pytest.mark.parametrize("content", HEADERS)
def test_what_is_wrong_with_a_header_is_named(tmp_path, content):
    name, message = HEADERS[content]
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_interactions(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        '"user_id";"item_id";"a,b,c,d,e"\nu;i;x\n',
        'user_id,item_id,"a|b|c|d|e"\nu,i,x\n',
        "SEP=;\nuser_id;item_id\nu;i\n",
        '"sep=|"\nitem_id|user_id\ni|u\n',
    ],
)
@pytest.mark.parametrize("name", ["log.csv", "log"])
def test_what_separates_is_told_by_what_is_outside_of_quotes(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    table = read_interactions(tmp_path / name)
    assert (table.user_ids.tolist(), table.item_ids.tolist()) == (["u"], ["i"])


def test_quotes_merge_no_rows_where_bars_separate(tmp_path):
    (tmp_path / "log.psv").write_text('user_id|item_id|t\nu1|"abc|1\nu2|i2|2\nu3|def"|2\n')
    table = read_interactions(tmp_path / "log.psv")
    assert (table.item_ids.tolist(), table.report.rows_read) == (['"abc', 'def"', "i2"], 3)
    (tmp_path / "log.psv").write_text('"user_id"|"item_id"\n"u"|"i"\n')
    with pytest.raises(InputError, match="has quotes, which are text where bars separate; write the file without"):
        read_interactions(tmp_path / "log.psv")
