"""CSV and .inter: nasty ids, bad rows with their lines, and the two ways of reading against each other."""

import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tf_hqgnn.data import delimited
from tf_hqgnn.data.delimited import read_delimited
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.records import record_ends, records
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
IDS = st.one_of(
    st.sampled_from(
        ["NA", "null", "nan", "007", "7", " 7", "7 ", "true", "1e3", "-", '"', '""', "a,b", "x\ny", "\ry", "x\r\n"]
    ),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=5).filter(
        lambda text: text.strip(" \t\r\n\v\f")
    ),
)


def pairs_of(table):
    inner = table.interactions
    return list(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@FILES
@given(
    st.lists(st.tuples(IDS, IDS, st.integers(-(10**7), 10**7)), min_size=1, max_size=20),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_id_survives(tmp_path, rows, quoting, line_end, bom):
    text = io.StringIO(newline="")
    # Python's writer leaves a lone CR unquoted when lines end in LF, although its own reader breaks there.
    minimal = quoting == csv.QUOTE_MINIMAL and not any("\r" in cell for row in rows for cell in row[:2])
    writer = csv.writer(text, quoting=csv.QUOTE_MINIMAL if minimal else csv.QUOTE_ALL, lineterminator=line_end)
    writer.writerow(["user_id", "ignored", "item_id", "timestamp"])
    writer.writerows((user, 'x, "y"\n', item, time) for user, item, time in rows)
    path = write(tmp_path / "a.csv", (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
    table = read_interactions(path)
    first = {}
    for user, item, time in rows:
        first[user, item] = min(time, first.get((user, item), time))
    assert pairs_of(table) == sorted(first)
    assert table.interactions.timestamp.tolist() == [first[pair] for pair in sorted(first)]
    assert table.user_ids.tolist() == sorted({user for user, _, _ in rows})
    assert (table.report.rows_read, table.report.kept) == (len(rows), len(first))


def read_all(path, block_bytes, inter=False):
    log = BadRowLog(10**9)
    chunks = list(read_delimited(path, log, inter=inter, block_bytes=block_bytes))
    rows = []
    for chunk in chunks:
        numbers = [column.tolist() for column in chunk[2:] if column is not None]
        rows += zip(chunk.user_id.to_pylist(), chunk.item_id.to_pylist(), *numbers)
    return rows, log.bad()


PIECES = [
    b"a",
    b"b",
    b"7",
    b".",
    b",",
    b",",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b'""',
    b" ",
    b"\xc3\xa9",
    b"\xff",
    b"\0",
]
LINES = [b"u,i,1", b"u,j,2", b'"u","k",3', b'"u\nv","k",3', b"u,i,nan", b"u,i,+1", b",i,1", b"u,,1", b"u,i,1e999"]
SOUP = st.lists(st.sampled_from([*PIECES, *(line + b"\n" for line in LINES)]), max_size=25).map(b"".join)


def assert_every_way_reads_the_same(path, monkeypatch, block_bytes):
    """In one block, in small blocks, and row by row."""
    monkeypatch.setattr(delimited, "_SMALL_BYTES", 16)
    whole = read_all(path, 1 << 20)
    assert read_all(path, block_bytes) == whole
    with monkeypatch.context() as patch:
        patch.setattr(delimited._Reader, "_read_regular", lambda _self, _block: None)
        patch.setattr(delimited, "_SMALL_BYTES", 1 << 30)
        assert read_all(path, 1 << 20) == whole


@settings(FILES, max_examples=200)
@given(SOUP, st.integers(1, 60))
@example(b'"a\n', 3)
@example(b'a"b,c,1\nu,i,1\n', 4)
@example(b'u,i,1\n"u,i,1\nu,i,1\n', 5)
def test_every_way_of_reading_gives_the_same(tmp_path, monkeypatch, body, block_bytes):
    path = write(tmp_path / "a.csv", b"user_id,item_id,timestamp\n" + body)
    assert_every_way_reads_the_same(path, monkeypatch, block_bytes)


@settings(FILES, max_examples=200)
@given(SOUP)
def test_rows_without_broken_quoting_are_those_of_pythons_reader(body):
    found = list(records(body, b","))
    if any(record.fields is None for record in found) or not body.isascii() or b"\0" in body:
        return
    expected = [row for row in csv.reader(io.StringIO(body.decode(), newline="")) if row]
    assert [[cell.decode() for cell in record.fields] for record in found if record.text] == expected
    ends = record_ends(body, b",")
    if ends is not None:
        assert set(ends.tolist()) >= {record.end for record in found if record.end < len(body)}


KINDS = {
    b"u": "wrong column count",
    b"u,i,1,x": "wrong column count",
    b",i,1": "missing user_id",
    b"u,,1": "missing item_id",
    b'"",i,1': "missing user_id",
    b"u,i,": "timestamp not a finite number",
    b"u,i,nan": "timestamp not a finite number",
    b"u,i,-inf": "timestamp not a finite number",
    b"u,i,yesterday": "timestamp not a finite number",
    b"u,i,1_0": "timestamp not a finite number",
    b"u,i,1e999": "timestamp not a finite number",
    b"\xff,i,1": "undecodable bytes",
    b"u,\xe9t\xe9,1": "undecodable bytes",
    b'u,"i"x,1': "broken quoting",
    b'u,"i,1': "broken quoting",
}


@pytest.mark.parametrize(("row", "kind"), KINDS.items())
def test_a_bad_row_is_counted_with_its_line(tmp_path, row, kind):
    path = write(tmp_path / "a.csv", b'user_id,item_id,timestamp\n\nu1,"a\nb",1\n' + row + b"\nu2,i2,2\n")
    table = read_interactions(path, max_bad_rows=1)
    assert {name: (bad.count, bad.first_lines) for name, bad in table.report.bad.items()} == {kind: (1, (5,))}
    assert pairs_of(table) == [("u1", "a\nb"), ("u2", "i2")]
    with pytest.raises(
        InputError, match=rf"a\.csv: 1 bad row, 0 allowed: {kind} 1 \(line 5\); mend them, .*max_bad_rows=1"
    ):
        read_interactions(path)


@pytest.mark.parametrize("column", ["rating", "weight"])
@pytest.mark.parametrize("value", ["", "inf", "good", "1e39"])
def test_bad_ratings_and_weights(tmp_path, column, value):
    path = write(tmp_path / "a.csv", f"user_id,item_id,{column}\nu,i,1\nv,i,{value}\n")
    report = read_interactions(path, max_bad_rows=1).report
    assert list(report.bad) == [f"{column} not a finite number"]


@FILES
@given(
    st.lists(
        st.one_of(
            st.sampled_from(list(KINDS)[:-1]),
            st.builds(lambda u, i, t: b"%d,%d,%d" % (u, i, t), *[st.integers(0, 5)] * 3),
        ),
        max_size=40,
    )
)
def test_rows_are_conserved(tmp_path, rows):
    path = write(tmp_path / "a.csv", b"\n".join([b"user_id,item_id,rating", b"x,y,9", *rows]) + b"\n")
    quarantine = tmp_path / "bad.csv"
    report = read_interactions(path, min_rating=2, quarantine_path=quarantine).report
    good = [row.split(b",") for row in rows if row not in KINDS] + [[b"x", b"y", b"9"]]
    liked = [row for row in good if int(row[2]) >= 2]
    assert report.rows_read == len(rows) + 1
    assert report.num_bad == len(rows) + 1 - len(good)
    assert report.filtered == len(good) - len(liked)
    assert report.kept == len({(user, item) for user, item, _ in liked})
    assert report.rows_read == report.kept + report.duplicate + report.filtered + report.num_bad
    with quarantine.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        caught = list(csv.DictReader(file))
    assert [row["row"].encode("utf-8", "surrogateescape") for row in caught] == [row for row in rows if row in KINDS]
    assert [int(row["line"]) - 3 for row in caught] == [n for n, row in enumerate(rows) if row in KINDS]


@FILES
@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 5), min_size=1, max_size=30).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(rows))
    )
)
def test_the_order_of_the_rows_does_not_matter(tmp_path, both):
    tables = []
    for rows in both:
        lines = "\n".join(",".join(map(str, row)) for row in rows)
        tables.append(read_interactions(write(tmp_path / "a.csv", "user_id,item_id,timestamp,rating,weight\n" + lines)))
    first, second = tables
    assert first.report == second.report
    assert pairs_of(first) == pairs_of(second)
    for name in ("rating", "weight"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.interactions.timestamp, second.interactions.timestamp)


def test_the_earliest_of_a_repeated_pair_is_kept(tmp_path):
    text = "user_id,item_id,timestamp,rating\nu,i,5,1\nu,i,3,2\nu,i,3,4\nu,i,9,5\nv,i,1,1\n"
    table = read_interactions(write(tmp_path / "a.csv", text))
    assert table.interactions.timestamp.tolist() == [3, 1]
    assert table.rating.tolist() == [4, 1]
    assert table.report.duplicate == 3
    # Rows below the threshold are filtered first: the pair survives with its first row that counts.
    table = read_interactions(tmp_path / "a.csv", min_rating=5)
    assert (table.interactions.timestamp.tolist(), table.report.filtered, table.report.duplicate) == ([9], 4, 0)


JOINED = {
    "ids alone": ("user_id,item_id\n", "u{},i{}\n"),
    "with numbers": ("user_id,item_id,rating\n", "u{},i{},5\n"),
    "other order": ("title,item_id,user_id\n", "t,i{1},u{0}\n"),
    "RecBole": ("user_id:token\titem_id:token\n", "u{}\ti{}\n"),
}


@pytest.mark.parametrize(("header", "row"), JOINED.values(), ids=JOINED)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_headers_of_joined_files_are_bad_rows(tmp_path, header, row, mark):
    text = header + row.format(1, 1) + mark + header + row.format(2, 2)
    path = write(tmp_path / ("a.inter" if "token" in header else "a.csv"), text)
    with pytest.raises(InputError, match=r"1 bad row, 0 allowed: repeated header 1 \(line 3\)"):
        read_interactions(path)
    assert pairs_of(read_interactions(path, max_bad_rows=1)) == [("u1", "i1"), ("u2", "i2")]
    # An id may be called like a column.
    path = write(path, header + row.format(1, 1).replace("u1", "user_id").replace("i1", "i"))
    assert pairs_of(read_interactions(path)) == [("user_id", "i")]


def test_inter_and_other_delimiters(tmp_path):
    inter = write(tmp_path / "a.inter", "user_id:token\titem_id:token\trating:float\nu 1\ti,1\t4\nu2\ti2\t5\n")
    table = read_interactions(inter)
    assert pairs_of(table) == [("u 1", "i,1"), ("u2", "i2")]
    assert table.rating.tolist() == [4, 5]
    for delimiter in "\t;":
        text = "item_id,user_id\ni,u\n".replace(",", delimiter)
        assert pairs_of(read_interactions(write(tmp_path / "b.csv", text))) == [("u", "i")]


FIELDS = st.text(st.characters(blacklist_characters="\t\n\r\0 \v\f", blacklist_categories=["Cs"]), max_size=6)


@settings(FILES, max_examples=150)
@given(
    st.lists(
        st.tuples(FIELDS, FIELDS | st.sampled_from(['"abc', 'def"', '"', '""', '"a" b'])), min_size=1, max_size=20
    ),
    st.sampled_from(["a.inter", "a.tsv", "a.csv"]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([("u1", '"abc'), ("u2", "x"), ('def"', "y")], "a.tsv", "\n")
def test_in_tab_separated_files_a_line_is_a_row_whatever_its_quotes(tmp_path, rows, name, end):
    header = "user_id:token\titem_id:token" if name == "a.inter" else "user_id\titem_id"
    path = write(tmp_path / name, end.join([header, *("\t".join(row) for row in rows)]) + end)
    expected = {row for row in rows if all(row)}
    if not expected:
        return
    table = read_interactions(path, max_bad_rows=len(rows))
    assert set(pairs_of(table)) == expected
    assert table.report.rows_read == len(rows)


def test_quotes_around_the_names_of_tab_separated_columns_are_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.tsv: the header .* has quotes, which are text where tabs separate"):
        read_interactions(write(tmp_path / "a.tsv", '"user_id"\t"item_id"\n"u"\t"i"\n'))


NUMBER_PIECES = ["4,5", "4.5", "+,5", "1,5e3", "-1,0", "1.234,5", "1,2,3", "7", "x", "", " 4,5 ", "nan", "2024-01-02"]
RATING_ROWS = st.lists(
    st.tuples(st.sampled_from(NUMBER_PIECES), st.sampled_from(NUMBER_PIECES)), min_size=1, max_size=12
)


def decimal(text, point):
    """A number as Python reads it, where `point` may stand for the decimal point; None for what is none."""
    parts = text.strip(" ").replace(point, ".", 1) if "." not in text else text.strip(" ")
    try:
        value = float(parts)
    except ValueError:
        return None
    return value if value == value else None


@FILES
@given(RATING_ROWS)
def test_a_decimal_comma_where_a_semicolon_separates(tmp_path, ratings):
    lines = "".join(f"u{n};i;{rating};{weight}\n" for n, (rating, weight) in enumerate(ratings))
    path = write(tmp_path / "a.csv", "user_id;item_id;rating;weight\nv;i;1;1\n" + lines)
    table = read_interactions(path, max_bad_rows=len(ratings))
    good = {f"u{n}": tuple(decimal(x, ",") for x in pair) for n, pair in enumerate(ratings)} | {"v": (1.0, 1.0)}
    good = {user: pair for user, pair in good.items() if None not in pair and pair[1] >= 0}
    assert {user: (r, w) for user, r, w in zip(table.user_ids, table.rating, table.weight)} == good


@pytest.mark.parametrize("separator", [",", "\t", "|"])
def test_elsewhere_a_decimal_comma_is_no_number(tmp_path, separator):
    rows = [("user_id", "item_id", "rating"), ("u", "i", "1"), ("v", "i", '"4,5"' if separator == "," else "4,5")]
    path = write(tmp_path / "a.csv", "".join(separator.join(row) + "\n" for row in rows))
    assert list(read_interactions(path, max_bad_rows=1).report.bad) == ["rating not a finite number"]


SEMICOLON_LINES = [b"u;i;4,5;2024-01-02", b"u;j;4.5;5", b"v;i;7;2024-01-02T03:04:05Z", b"v;k;1,5;6,5", b"w;i;x;1"]


@settings(FILES, max_examples=150)
@given(
    st.lists(st.sampled_from([*(line + b"\n" for line in SEMICOLON_LINES), b'"', b";", b",", b"4", b"\n"])).map(
        b"".join
    ),
    st.integers(1, 60),
)
def test_every_way_of_reading_gives_the_same_in_every_dialect(tmp_path, monkeypatch, body, block_bytes):
    path = write(tmp_path / "a.csv", b"user_id;item_id;rating;timestamp\n" + body)
    assert_every_way_reads_the_same(path, monkeypatch, block_bytes)


def test_what_excel_and_databases_write(tmp_path):
    for text in ("sep=;\nuser_id;item_id\nu;i\n", '"sep=;"\r\nuser_id;item_id\r\nu;i\r\n', "user_id|item_id\nu|i\n"):
        assert pairs_of(read_interactions(write(tmp_path / "a.csv", text))) == [("u", "i")]


HEADERS = {
    "no id": (b"user,item\n1,2\n", "no column user_id and no column item_id; .*found: user, item; rename"),
    "one id": (b"user_id,thing\n1,2\n", "no column item_id; expected at least user_id and item_id"),
    "twice": (b"user_id,item_id,user_id\n1,2,3\n", "column user_id appears more than once"),
    "UTF-16": ("user_id,item_id\n1,2\n".encode("utf-16"), "UTF-16; expected UTF-8"),
    "Latin-1": (b"user_id,item_id,\xe9\n1,2,3\n", "header isn't UTF-8"),
    "quoting": (b'"user_id,item_id\n1,2\n', "not properly quoted"),
    "no rows": (b"user_id,item_id\n", r"no interactions in 0 rows \(read as csv\)"),
    "blank": (b"\n\n", "no column user_id"),
}


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS)
def test_unusable_files(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(write(tmp_path / "a.csv", content))
    assert "\n" not in str(caught.value)


def test_many_kinds_in_one_line_and_only_the_first_five_lines(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,item_id\nu,i\n" + ",i\n" * 7 + "u\n")
    with pytest.raises(InputError) as caught:
        read_interactions(path, max_bad_rows=7)
    assert "8 bad rows, 7 allowed: missing user_id 7 (lines 3, 4, 5, 6, 7, ...), wrong column count 1 (line 10)" in str(
        caught.value
    )
    assert "--set data.max_bad_rows=8" in str(caught.value)
    assert "--set data.quarantine_path=FILE" in str(caught.value)


def test_quarantine_is_written_whole_or_not_at_all(tmp_path):
    good = write(tmp_path / "a.csv", "user_id,item_id\nu,i\n")
    read_interactions(good, quarantine_path=tmp_path / "bad.csv")
    assert (tmp_path / "bad.csv").read_text() == "file,line,kind,row\n"
    with pytest.raises(InputError, match=r"no interactions in 1 rows .*: missing user_id in its only row"):
        read_interactions(write(tmp_path / "b.csv", "user_id,item_id\n,i\n"), quarantine_path=tmp_path / "other.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "bad.csv"]
    with pytest.raises(InputError, match=r"quarantine_path .*expected a file in a folder that exists"):
        read_interactions(good, quarantine_path=tmp_path / "absent" / "bad.csv")


def test_bad_rows_in_a_file_of_many_blocks(tmp_path):
    rows = [f"u{n},i{n % 7},{n}" for n in range(30_000)]
    rows[12_345] = "u,i"
    rows[29_999] = "u,i,inf"
    path = write(tmp_path / "a.csv", "user_id,item_id,timestamp\n" + "\n".join(rows))
    found, bad = read_all(path, 100_000)
    assert len(found) == 29_998
    assert {kind: rows.first_lines for kind, rows in bad.items()} == {
        "wrong column count": (12_347,),
        "timestamp not a finite number": (30_001,),
    }


@pytest.mark.parametrize("block_bytes", [50_000, 1 << 24])
def test_a_quote_that_is_never_closed_costs_one_row(tmp_path, block_bytes):
    rows = [f"user{n},item{n % 7}" for n in range(120_000)]
    rows[5] = 'user5,"item5'
    path = write(tmp_path / "a.csv", "user_id,item_id\n" + "\n".join(rows))
    assert path.stat().st_size > 1 << 20
    found, bad = read_all(path, block_bytes)
    assert len(found) == 119_999
    assert {kind: (rows.count, rows.first_lines) for kind, rows in bad.items()} == {"broken quoting": (1, (7,))}
