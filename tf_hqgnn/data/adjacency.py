"""LightGCN's adjacency lists: a line for each user, `user item item ...`."""

from __future__ import annotations

from pathlib import Path

from tf_hqgnn.data.chunks import UNDECODABLE, Chunks, chunk_from_lists
from tf_hqgnn.data.input_file import open_text
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

_ROWS_PER_CHUNK = 1 << 20


def read_adjacency(path: Path, log: BadRowLog) -> Chunks:
    """Yields the pairs of a file of adjacency lists; each (user, item) pair is a row.

    A user without items is legal and counts no row; blank lines are skipped. Ids are separated by blanks or tabs, so
    they can't contain these. A pair whose user or item isn't UTF-8 is bad.

    Args:
      path: the file.
      log: collects bad rows.

    Raises:
      InputError: The first line is the header of a table.
    """
    users: list[str] = []
    items: list[str] = []
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            tokens = line.split()
            if number == 1 and _is_header(tokens):
                raise InputError(
                    f"{path}: the first line names columns, so this is a table and not lists; set data.format=csv, or "
                    "leave out data.format"
                )
            if len(tokens) < 2:
                continue
            try:
                user, *row = [token.decode() for token in tokens]
                items.extend(row)
                users.extend([user] * len(row))
            except UnicodeDecodeError:
                for user, item in _pairs(path, tokens, number, log):
                    users.append(user)
                    items.append(item)
            if len(users) >= _ROWS_PER_CHUNK:
                yield chunk_from_lists(users, items, {}, ())
                users, items = [], []
    yield chunk_from_lists(users, items, {}, ())


def _is_header(tokens: list[bytes]) -> bool:
    names = {token.partition(b":")[0] for token in tokens}
    return {b"user_id", b"item_id"} <= names


def _pairs(path: Path, tokens: list[bytes], line: int, log: BadRowLog) -> list[tuple[str, str]]:
    """The good pairs of a line with undecodable bytes; the others go to the log."""
    pairs = []
    for item in tokens[1:]:
        try:
            pairs.append((tokens[0].decode(), item.decode()))
        except UnicodeDecodeError:
            log.add(str(path), UNDECODABLE, line, tokens[0] + b" " + item)
    return pairs
