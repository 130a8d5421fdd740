"""Makes the footer of a newer Parquet file readable for an older pyarrow, and says which columns stay out of reach.

pyarrow refuses a whole file when its footer names one type that it doesn't know, even of a column nobody asks for. Two
places do so: the Arrow schema, which is only a hint and can be left out, and the logical type of a column (Thrift's
union `LogicalType`), which can be replaced by `UNKNOWN`. It fails as well where the name of such a column isn't UTF-8;
what isn't is replaced by question marks. All is done without changing the length of anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# Of `LogicalType` in parquet.thrift; what pyarrow 10 knows ends before FLOAT16. The one that stands for no type is 11.
_LOGICAL_TYPES = {15: "float16", 16: "variant", 17: "geometry", 18: "geography"}
_UNKNOWN = 11
_ARROW_SCHEMA = b"ARROW:schema"

_STRUCT, _LIST, _SET, _MAP, _BINARY = 12, 9, 10, 11, 8
_TRUE, _FALSE, _BYTE, _DOUBLE = 1, 2, 3, 7


class Footer(NamedTuple):
    """A footer that an older pyarrow reads.

    Args:
      metadata: Thrift's bytes, as long as before.
      hidden: columns that it can't read, with their types.
    """

    metadata: bytes
    hidden: dict[str, str]


def readable_footer(metadata: bytes) -> Footer | None:
    """The footer without what an older pyarrow doesn't know; None if it isn't one."""
    changed = bytearray(metadata)
    hidden = {}
    try:
        for name, place, identifier, start, stop in _columns(metadata):
            if not _is_utf8(metadata[place]):
                changed[place] = bytes(byte if byte < 128 else ord("?") for byte in metadata[place])
            if identifier in _LOGICAL_TYPES:
                hidden[name] = _LOGICAL_TYPES[identifier]
                short = bytes([_UNKNOWN << 4 | _STRUCT])
                changed[start:stop] = short if stop - start == 1 else bytes([_STRUCT, _UNKNOWN << 1])
    except (IndexError, ValueError, RecursionError):
        return None
    return Footer(bytes(changed).replace(_ARROW_SCHEMA, b"ARROW:absent"), hidden)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(data: bytes) -> Iterator[tuple[str, slice, int, int, int]]:
    """Of each column: name, its place, number of the logical type (-1: none), start and stop of that field's header."""
    reader = _Thrift(data)
    for field, kind in reader.fields():
        # FileMetaData: 2 is the list of the schema's elements.
        if field != 2 or kind != _LIST:
            reader.skip(kind)
            continue
        for _ in range(reader.list_header()[1]):
            name, place, found = "", slice(0, 0), (-1, 0, 0)
            for inner, inner_kind in reader.fields():
                # SchemaElement: 4 is the name, 10 the logical type.
                if inner == 4:
                    text = reader.binary()
                    name, place = text.decode("utf-8", "replace"), slice(reader.position - len(text), reader.position)
                elif inner == 10:
                    for identifier, union_kind in reader.fields():
                        found = identifier, reader.header_start, reader.position
                        reader.skip(union_kind)
                else:
                    reader.skip(inner_kind)
            yield name, place, *found


class _Thrift:
    """Reads Thrift's compact protocol; raises IndexError or ValueError for what isn't."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        self.header_start = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """`(number, type)` of each field of a struct; the caller reads or skips its value."""
        number = 0
        while True:
            start = self.position
            header = self._byte()
            if header == 0:
                return
            number = number + (header >> 4) if header >> 4 else self._zigzag()
            self.header_start = start
            yield number, header & 15

    def list_header(self) -> tuple[int, int]:
        """`(type of the elements, how many)`."""
        header = self._byte()
        size = header >> 4
        return header & 15, self._varint() if size == 15 else size

    def binary(self) -> bytes:
        """A string."""
        size = self._varint()
        start = self.position
        self._advance(size)
        return self._data[start : self.position]

    def skip(self, kind: int, in_list: bool = False) -> None:
        """Passes over a value. A boolean takes a byte in a list, and none as a field."""
        if kind in (_TRUE, _FALSE):
            self._advance(1 if in_list else 0)
        elif kind == _BYTE:
            self._advance(1)
        elif kind == _DOUBLE:
            self._advance(8)
        elif kind == _BINARY:
            self.binary()
        elif kind in (_LIST, _SET):
            element, size = self.list_header()
            for _ in range(size):
                self.skip(element, in_list=True)
        elif kind == _MAP:
            if size := self._varint():
                kinds = self._byte()
                for _ in range(size):
                    self.skip(kinds >> 4, in_list=True)
                    self.skip(kinds & 15, in_list=True)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        elif kind in (4, 5, 6):
            self._varint()
        else:
            raise ValueError(f"{kind} is no type of Thrift's compact protocol")

    def _advance(self, size: int) -> None:
        self.position += size
        if self.position > len(self._data):
            raise IndexError("the data ends within a value")

    def _byte(self) -> int:
        self._advance(1)
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
