"""Tables are never taken for lists, and lists stay lists."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.types import InputError

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
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("name", ["u.data", "log.txt", "log"])
def test_a_table_without_a_known_header_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    with pytest.raises(InputError, match=rf"{name}: (a table|can't tell)") as caught:
        detect_format(tmp_path / name)
    assert "data.format" in str(caught.value)
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
    "one user": "0 1 2 3\n",
    "one item each": "0 1\n1 4\n2 1\n",
    "words": "ann tea milk\nbob tea\n",
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
@given(st.lists(st.lists(st.integers(0, 999).map(str), max_size=6), min_size=2, max_size=20))
def test_lists_of_different_lengths_are_lists(tmp_path, items):
    lengths = {len(row) for row in items}
    if len(lengths) == 1 or max(lengths) == 0:
        return
    text = "".join(f"{' '.join([str(user), *row])}\n" for user, row in enumerate(items))
    (tmp_path / "lists").write_text(text)
    assert detect_format(tmp_path / "lists") == "adjacency"
