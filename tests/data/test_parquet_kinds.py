"""Parquet files that are newer than the installed pyarrow, or damaged, and the types of their columns."""

import base64
import datetime
import gzip
import json
import re
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tf_hqgnn.beam.plan import read_ids
from tf_hqgnn.beam.users import ReadUsers, Source
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.parquet_file import open_parquet, read_parquet_table
from tf_hqgnn.data.parquet_footer import readable_footer
from tf_hqgnn.types import InputError

FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RELEASE = int(pa.__version__.split(".")[0])
READS_FLOAT16, WRITES_VIEWS = RELEASE >= 15, RELEASE >= 21

# Written by pyarrow 26, since older releases can't: user_id string_view, item_id binary_view, x list_view<int32>.
VIEWS = (
    "c-oCq%}(1u5FQ)L<&f)IUdabvVu8d@5;av@<uVQ!EFh$=3WQ5#f|W)%By~cazDHk!7vjXDFtaueDnepp&(6+#-^}OLx{py)fN+Jo"
    "B@7BoVLAYy(`#rN`Iz0+`yd-)<29u4Yg)M%hD_UFoAcqXWD*M#M6IsdAMWN!_H%q)hhrudx$z>IP!8I<tu2Kv%;OH#+J<eU<M~49"
    "AasT$X);M}7hoCEksS{lQImBOWYttq$qKB%TMr!)M>OaV*pwcr19-_OM^=p9n+#nsK5I)Q=2?Uy_N<=wPg^lJJp*K*&H})C&@97S"
    "rv;>A*D#7s&%YLjVL$4-Y&rUf_zep?LZrk91H=(_M=IwN;Dm!NVyF_U6^l~$hND>Rxt0HsTXS#_sn&xPejlrO><@W}KV|&1uk=tp"
    "RP_+?g|w1?kTx#Q8(8W&VV!<nLfO8v+Z#O350?1fd}W79??seeoqd^I;$FyjQuagj8*x1^hF7Hhfl}`0)khRI<YaT$I{SOkN^eSv"
    "s)Oy$;_UZbve+KZX4`R=O>_58lFi4{TetOTr?JzN9lC+V1NU@e`}BuA0q~}x=K"
)
# user_id and item_id strings, rating and unused float16.
HALF = (
    "c-oCqO>5gg5FHDl_+WC%3JG-3#ezbU)P}T)NlM3GwP}*Nf;e(06j>IIsO_k-U6WgXM1N3!L7}()m>e>*5{f7ebdcT-v+uo`6{`Wd"
    "H37mF_Di8sq6y6c0EJ$)R3h{l#{Wmz6MI`I@D_eOzj+Gpglc|10z+E{x8d9uWe}CBV(hG!Ve%!KRN<WIX)RiX^FnQx3>8C5{8hA="
    "&K?S-^@8LRS<+S0GS3~bM8&LXVCK$(w)C#vb;^B<<^rL>DUmhP0hM$`Mb<Z0Tt2JVO%>TpQqa&F&d<`5;>9+8I&jYay^XK`P;}KP"
    "(*mYtRM2%lUN_ROX8ctSWlWLc6Q=P2af8h%b`hu8l3UnpB3^LPLhQ@J)0#<JBhEaAwk&oSq5;`&m~tWg-(#^Aav#Lra6R!ZXE&6F"
    "%zx7+IA)7>Cnu$TX>hCN{m66U@jRf3nSVH9kh8iuDVtA5kHPoc*?4#o-(b7Xd@{Y_b5e^QpIZ)>i#px3|K^|m0T*jQeR%KHXJ0c("
    "VgKw53_JFdZ|iWiAH?y#pCor1`+Jxyqq~J&e|_-kpl0%Q%pdqecY8oT)+2pZsTT"
)
# user_id list_view<string>, item_id string.
LISTS = (
    "c-m!BOHaZ;5MJu0a^Sj6H|e1ldMY3$7-HZsB@{u3&_qOHVhUCyJS|0(U&7CIcFV)ZBs)7h^L^jUX15Jqo)Km<+h!C4m8k|HM8QR4"
    "f0jV+3pc>J$;|)2#19DNPX(f@tKnNP^BE-tML%D!g7A6#!W5=9ONc5^oleKAh$)1n(g+Bq!7P|ZY0?y$ac&$1GbHVE8s!GJEn=_~"
    "PpgC%528}&Aixl(d75V>>jut9ut5o#7A4%3HzMRDacm)3uI5_(Uo4edlA-Mq8nu$R5pL)y@VvW+>-c{9PRR)?jsUF#vE2e}z!`xH"
    "FoKFKf#U$QL{I^!%fxAieYiQEZ?{4egQ{DVNhwl=qYXuJ`BLjfz02tY8UmlY7fuvvUgrSX>r3iHo<*0N?zZ1+y!sCv_-Z5R6U4AM"
    "#G|OU_Kd@Q9LIw{dM8o8=S>G4I8x$zxlD9(>4)#@Aj%Av%Zwj}i;ejagsbslZeCtxFS2=V<I9T2E#NO|<461kaxsZ_"
)


def write(path, text):
    path.write_bytes(zlib.decompress(base64.b85decode(text)))
    return path


def pairs_of(table):
    inner = table.interactions
    return list(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


def test_views_are_read_and_unused_columns_do_not_matter(tmp_path):
    table = read_interactions(write(tmp_path / "a.parquet", VIEWS))
    assert pairs_of(table) == [("a", "a"), ("b", "b")]
    assert table.report.files[0].types == {"user_id": "strings", "item_id": "strings"}


def test_half_floats_are_read_or_named_with_their_cure(tmp_path):
    path = write(tmp_path / "a.parquet", HALF)
    if READS_FLOAT16:
        assert read_interactions(path).rating.tolist() == [1.5, -2]
        return
    with pytest.raises(InputError) as caught:
        read_interactions(path)
    assert str(caught.value) == f"{path}: column rating is of type float16; expected numbers, cast the column"


def test_an_unused_half_float_does_not_matter(tmp_path):
    # The same file, whose rating is called by another name of the same length.
    data = zlib.decompress(base64.b85decode(HALF)).replace(b"rating", b"rank_x")
    (tmp_path / "a.parquet").write_bytes(data)
    assert pairs_of(read_interactions(tmp_path / "a.parquet")) == [("a", "a"), ("b", "b")]


def test_a_list_in_the_place_of_an_id_is_named(tmp_path):
    message = r"column user_id is of type list(_view)?<element: string>; expected strings or integers, cast the column"
    with pytest.raises(InputError, match=message):
        read_interactions(write(tmp_path / "a.parquet", LISTS))


@pytest.mark.skipif(READS_FLOAT16, reason="this pyarrow reads float16")
def test_a_whole_table_needs_all_its_columns(tmp_path):
    with pytest.raises(InputError, match=r"column rating is of type float16, which pyarrow .* can't read; write it as"):
        read_parquet_table(write(tmp_path / "a.parquet", HALF))


@pytest.mark.skipif(not WRITES_VIEWS, reason="this pyarrow writes no views")
@pytest.mark.parametrize("name", ["string_view", "binary_view"])
def test_views_that_this_pyarrow_writes(tmp_path, name):
    ids = pa.array(["a", None, "b"]).cast(getattr(pa, name)())
    pq.write_table(pa.table({"user_id": ids, "item_id": ["x", "y", "z"]}), tmp_path / "a.parquet")
    report = read_interactions(tmp_path / "a.parquet", max_bad_rows=1).report
    assert (report.kept, list(report.bad)) == (2, ["missing user_id"])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 30))
def test_a_footer_of_any_bytes_raises_nothing(noise, start, length):
    data = zlib.decompress(base64.b85decode(HALF))
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    changed = footer[:start] + noise + footer[start + length :]
    found = readable_footer(changed)
    assert found is None or len(found.metadata) == len(changed)
    assert readable_footer(footer).hidden == {"rating": "float16", "unused": "float16"}


READERS = {
    "log": read_interactions,
    "items": read_items,
    "exclude": read_ids,
    "users": lambda path: list(ReadUsers().process(Source("parquet", 0, str(path)))),
}


class TestDamage:
    def _damaged(self, path, **columns):
        """A file of three row groups; the first page of the second one's first column is overwritten."""
        table = pa.table({**columns})
        pq.write_table(table, path, row_group_size=1000, compression="snappy", use_dictionary=False)
        self._overwrite(path, 1, 0)
        return path

    def _overwrite(self, path, group, column):
        start = pq.ParquetFile(path).metadata.row_group(group).column(column).data_page_offset + 30
        data = bytearray(path.read_bytes())
        data[start : start + 300] = b"\xff" * 300
        path.write_bytes(data)

    @pytest.mark.parametrize("read", [read_interactions, read_parquet_table])
    def test_a_damaged_page_is_one_line_with_its_row_group(self, tmp_path, read):
        ids = [f"id {n}" for n in range(3000)]
        path = self._damaged(tmp_path / "log.parquet", user_id=ids, item_id=ids[::-1])
        with pytest.raises(InputError, match=rf"^{path}: row group 2 of 3 is damaged \(.*\); copy the file") as caught:
            read(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_an_index_beyond_its_dictionary_is_damage(self, tmp_path, read):
        ids = pa.array(["a", "b", "c", "b", "b"]).dictionary_encode()
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"user_id": ids, "item_id": ids}), path, compression="none")
        metadata = pq.ParquetFile(path).metadata.row_group(0)
        data = bytearray(path.read_bytes())
        for column in (0, 1):
            chunk = metadata.column(column)
            # The page ends with the indices: the number of their bits, of their groups, and two bits for each.
            end = chunk.dictionary_page_offset + chunk.total_compressed_size
            assert data[end - 4 : end] == bytes([2, 3, 0b01_10_01_00, 0b01])
            data[end - 2] = 0b01_11_01_00
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"x\.parquet: row group 1 of 1 is damaged \(.*\); copy the file again"):
            read(path)

    def test_columns_of_different_lengths_are_damage(self, tmp_path):
        """Pyarrow 10 crashes when it makes a batch of them, here if one of the first bytes changes."""
        path = tmp_path / "x.parquet"
        ids = [f"id {n}" for n in range(4000)]
        columns = {"user_id": ids, "item_id": ids[::-1], "rating": np.arange(4000) // 1000 * 0.5}
        pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False, row_group_size=2000)
        whole = path.read_bytes()
        chunk = pq.ParquetFile(path).metadata.row_group(1).column(2)
        messages = set()
        for place in range(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size):
            for bit in (1, 4, 128):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
                try:
                    assert read_interactions(path, max_bad_rows=4000).report.rows_read == 4000
                except InputError as error:
                    messages.add(re.sub(r"\(.*\)", "", str(error)))
                    found = str(error)
                    assert re.search(r"x\.parquet: row group 2 of 2 (is damaged|can't be read)", found), found
        assert any("is damaged" in message for message in messages)

    def test_damaged_items_are_one_line(self, tmp_path):
        ids = [f"id {n}" for n in range(3000)]
        path = self._damaged(tmp_path / "items.parquet", unused=ids, item_id=ids)
        # Damage in a column that isn't read doesn't matter.
        assert read_items(path).item_ids.tolist() == ids
        self._overwrite(path, 2, 1)
        with pytest.raises(InputError, match=r"items\.parquet: row group 3 of 3 is damaged"):
            read_items(path)

    @FILES
    @given(st.data())
    def test_damage_anywhere_ends_in_one_line_or_in_all_rows(self, tmp_path, data):
        path = tmp_path / "log.parquet"
        ids = [f"id {n % 7}" for n in range(200)]
        pq.write_table(pa.table({"user_id": ids, "item_id": ids[::-1]}), path, row_group_size=64, compression="gzip")
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
        rows, message = 200, ""
        try:
            rows = read_interactions(path, max_bad_rows=200).report.rows_read
        except InputError as error:
            message = str(error)
        assert (rows, "\n" in message) == (200, False)

    def test_compressed_from_without(self, tmp_path):
        pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"]}), tmp_path / "a.parquet")
        (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
        with pytest.raises(
            InputError, match=r"gz: the file is compressed with gzip, and Parquet can't be read through"
        ):
            read_interactions(tmp_path / "a.parquet.gz")


NOON = datetime.datetime(2024, 1, 2, 12, tzinfo=datetime.timezone.utc).timestamp()


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            ["2024-01-02T12:00:00Z", "2024-01-02 13:00:00.5+01:00"],
            [str(NOON), str(NOON + 0.5)],
            ["2024-01-02T12:00:00Z", str(NOON + 0.5)],
        ],
        ids=["ISO 8601", "numbers", "both"],
    )
    @pytest.mark.parametrize(
        "kind", [pa.utf8(), pa.large_utf8(), pa.binary(), pa.dictionary(pa.int32(), pa.utf8())], ids=str
    )
    def test_times_as_text(self, tmp_path, time, kind):
        column = pa.array(time)
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        pq.write_table(
            pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": column}), tmp_path / "a.parquet"
        )
        assert read_interactions(tmp_path / "a.parquet").interactions.timestamp.tolist() == [NOON, NOON + 0.5]

    def test_a_bad_time_in_text_is_a_bad_row(self, tmp_path):
        columns = {"user_id": ["a", "b", "c"], "item_id": ["x", "y", "z"], "timestamp": ["2024-01-02", None, "soon"]}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        report = read_interactions(tmp_path / "a.parquet", max_bad_rows=2).report
        assert {kind: bad.first_lines for kind, bad in report.bad.items()} == {"timestamp not a finite number": (2, 3)}

    def test_sparks_old_times_beyond_nanoseconds(self, tmp_path):
        """INT96 holds year 1 and year 9999, which nanoseconds in 64 bits don't."""
        days = [datetime.datetime(1500, 1, 1), datetime.datetime(2900, 1, 1)]
        columns = {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": pa.array(days, pa.timestamp("us"))}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
        expected = [(day - datetime.datetime(1970, 1, 1)).total_seconds() for day in days]
        assert read_interactions(tmp_path / "a.parquet").interactions.timestamp.tolist() == expected

    def test_all_times_bad_names_the_accepted_forms(self, tmp_path):
        columns = {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": ["02/01/2024", "03/01/2024"]}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(InputError) as caught:
            read_interactions(tmp_path / "a.parquet")
        message = str(caught.value)
        assert "no interactions in 2 rows (read as parquet): timestamp in all 2 rows is text such as" in message
        assert "'02/01/2024'; " in message
        assert "expected timestamp to be seconds since 1970, or ISO 8601 such as 2024-01-31" in message
        assert "max_bad_rows" not in message

    def test_quarantined_rows_stay_readable(self, tmp_path):
        columns = {"user_id": ["", "b"], "item_id": ["x", "y"], "timestamp": ["2024-01-02", "2024-01-03"]}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        read_interactions(tmp_path / "a.parquet", quarantine_path=tmp_path / "bad.csv")
        row = (tmp_path / "bad.csv").read_text().splitlines()[1].partition('"')[2].removesuffix('"').replace('""', '"')
        assert json.loads(row) == {"user_id": "", "item_id": "x", "timestamp": "2024-01-02"}


AVAILABLE = {
    "booleans": pa.array([True, False, None]),
    "integers": pa.array([1, 0, None]),
    "floats": pa.array([1.0, 0.0, None]),
    "NaN": pa.array([1.0, 0.0, float("nan")]),
    "strings": pa.array(["1.0", "no", ""]),
}


class TestItems:
    @pytest.mark.parametrize("column", AVAILABLE.values(), ids=AVAILABLE)
    def test_items_of_parquet(self, tmp_path, column):
        titles = pa.array(["One", None, "Café"]).dictionary_encode()
        table = pa.table({"year": [1, 2, 3], "item_id": [7, 8, 9], "title": titles, "available": column})
        pq.write_table(table, tmp_path / "items.parquet", row_group_size=2)
        items = read_items(tmp_path / "items.parquet")
        assert (items.item_ids.tolist(), items.title.tolist()) == (["7", "8", "9"], ["One", "", "Café"])
        assert items.available.tolist() == [True, False, True]

    def test_nothing_but_nulls(self, tmp_path):
        table = pa.table({"item_id": ["a", "b"], "category": pa.nulls(2), "available": pa.nulls(2)})
        pq.write_table(table, tmp_path / "items.parquet")
        items = read_items(tmp_path / "items.parquet")
        assert (items.category.tolist(), items.available.tolist()) == (["", ""], [True, True])

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"id": ["a"]}, r"no column item_id; expected item_id and any of .*found: id"),
            ({"item_id": ["a", None]}, r"items\.parquet row 2: missing item_id"),
            ({"item_id": ["a", "a"]}, r"items\.parquet row 2: item_id 'a' came before in row 1"),
            ({"item_id": ["a"], "available": [2]}, r"items\.parquet row 1: available is '2'; expected true"),
            ({"item_id": ["a"], "title": [["x"]]}, r"column title is of type list<.*>; expected strings or integers"),
            (
                {
                    "item_id": ["a"],
                    "title": pa.Array.from_buffers(pa.utf8(), 1, pa.array([b"\xff"]).buffers()),
                },
                r"items\.parquet row 1: undecodable bytes in title",
            ),
        ],
    )
    def test_items_that_cannot_be_used(self, tmp_path, columns, message):
        pq.write_table(pa.table(columns), tmp_path / "items.parquet")
        with pytest.raises(InputError, match=message):
            read_items(tmp_path / "items.parquet")


def test_the_schema_of_an_ordinary_file_is_untouched(tmp_path):
    pq.write_table(pa.table({"user_id": ["a"], "x": np.array([1], np.int8)}), tmp_path / "a.parquet")
    file = open_parquet(tmp_path / "a.parquet", "a")
    assert (file.unreadable, file.schema_arrow.field("x").type) == ({}, pa.int8())


@pytest.mark.parametrize("name", [b"\xe9title", b"rat\xe9"])
def test_names_that_are_not_utf8_matter_only_where_they_are_read(tmp_path, name):
    path = tmp_path / "log.parquet"
    plain = "x" * len(name)
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], plain: [1.0]}), path)
    path.write_bytes(path.read_bytes().replace(plain.encode(), name))
    assert len(read_interactions(path)) == 1
    assert read_items(path).item_ids.tolist() == ["i"]
    assert read_ids(path) == ("i",)
    for column in ("user_id", "item_id"):
        pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"]}), path)
        path.write_bytes(path.read_bytes().replace(column.encode(), column.replace("i", "\xe9", 1).encode("latin-1")))
        found = column.replace("i", r"\?", 1)
        with pytest.raises(InputError, match=rf"no column {column}; expected .*, found: .*{found}"):
            read_interactions(path)


def test_an_encrypted_file_is_named(tmp_path):
    pq.write_table(pa.table({"user_id": ["u"]}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(b"PARE" + content[4:-4] + b"PARE")
    with pytest.raises(InputError, match="the Parquet file is encrypted; write it anew without encryption"):
        read_interactions(tmp_path / "x.parquet")
