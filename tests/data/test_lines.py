"""Lines end in LF, CRLF or CR, wherever a block is cut."""

import gzip
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.lines import text_lines
from tf_hqgnn.types import InputError


@given(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\xff", b"\x0b"])).map(b"".join), st.integers(1, 9)
)
def test_lines_do_not_depend_on_the_blocks(text, block_bytes):
    ends = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected = ends.split(b"\n")
    assert list(text_lines(io.BytesIO(text), "a.txt", block_bytes)) == (expected if expected[-1] else expected[:-1])


def test_lists_with_any_line_end_are_the_same(tmp_path):
    for name, text in {"cr": "0 1 2 3\r1\r2 5\r3 1 2\r", "mixed": "0 1 2 3\r1\r\n2 5\n3 1 2"}.items():
        (tmp_path / name).write_text(text, newline="")
        table = read_interactions(tmp_path / name, "adjacency")
        inner = table.interactions
        pairs = list(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))
        assert pairs == [("0", "1"), ("0", "2"), ("0", "3"), ("2", "5"), ("3", "1"), ("3", "2")], name


@pytest.mark.parametrize(
    ("name", "begin", "piece", "line"),
    [
        ("lists", b"0 1\n1 2\n2 ", b"7 ", 3),
        ("table", b"user_id,item_id\n0,1\n", b"a", 3),
        ("header", b"user_id,", b"a,", 1),
    ],
)
def test_a_line_without_end_is_refused_before_memory_is_used_up(tmp_path, monkeypatch, name, begin, piece, line):
    """A gigabyte of one line compresses to a megabyte."""
    monkeypatch.setattr("tf_hqgnn.data.text_table._BLOCK_BYTES", 1 << 20)
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(40):
            file.write(piece * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_interactions(path, "adjacency" if name == "lists" else "csv")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert f"{path} line {line}: it doesn't end within 16 MiB" in str(caught.value)
