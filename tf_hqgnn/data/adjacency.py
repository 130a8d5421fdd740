"""LightGCN's adjacency lists: a line for each user, `user item item ...`."""

from __future__ import annotations

from pathlib import Path

from tf_hqgnn.data.chunks import ID_COLUMNS, UNDECODABLE, Chunks, bad_id, chunk_from_lists
from tf_hqgnn.data.ids import MAX_ID_BYTES, id_fault
from tf_hqgnn.data.input_file import open_text
from tf_hqgnn.data.lines import text_lines
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

_ROWS_PER_CHUNK = 1 << 20


def read_adjacency(path: Path, log: BadRowLog) -> Chunks:
    """Yields the pairs of a file of adjacency lists; each (user, item) pair is a row.

    A user without items is legal and counts no row; blank lines are skipped. Ids are separated by blanks or tabs, so
    they can't contain these. A pair whose user or item isn't UTF-8, or no id by `tf_hqgnn.data.ids`, is bad.

    Args:
      path: the file.
      log: collects bad rows.

    Raises:
      InputError: The first line is the header of a table.
    """
    users: list[str] = []
    items: list[str] = []
    with open_text(path) as file:
        for number, line in enumerate(text_lines(file, str(path)), start=1):
            tokens = line.split()
            if number == 1 and _is_header(tokens):
                raise InputError(
                    f"{path}: the first line names columns, so this is a table and not lists; set data.format=csv, or "
                    "leave out data.format"
                )
            if len(tokens) < 2:
                continue
            for user, item in _pairs(path, line, tokens, number, log):
                users.append(user)
                items.append(item)
            if len(users) >= _ROWS_PER_CHUNK:
                yield chunk_from_lists(users, items, {}, ())
                users, items = [], []
    yield chunk_from_lists(users, items, {}, ())


def _is_header(tokens: list[bytes]) -> bool:
    names = {token.partition(b":")[0] for token in tokens}
    return {b"user_id", b"item_id"} <= names


def _pairs(path: Path, text: bytes, tokens: list[bytes], line: int, log: BadRowLog) -> list[tuple[str, str]]:
    """The good pairs of a line; the others go to the log."""
    if text.isascii() and b"\0" not in text and max(map(len, tokens)) <= MAX_ID_BYTES:
        user, *items = [token.decode() for token in tokens]
        return [(user, item) for item in items]
    pairs = []
    for item in tokens[1:]:
        fault = _fault(tokens[0], item)
        if fault is None:
            pairs.append((tokens[0].decode(), item.decode()))
        else:
            log.add(str(path), fault, line, tokens[0] + b" " + item)
    return pairs


def _fault(*pair: bytes) -> str | None:
    """The kind of a bad pair."""
    for name, value in zip(ID_COLUMNS, pair):
        try:
            fault = id_fault(value.decode())
        except UnicodeDecodeError:
            return UNDECODABLE
        if fault is not None:
            return bad_id(name, fault)
    return None
