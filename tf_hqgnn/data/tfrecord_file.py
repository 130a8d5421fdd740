"""The records of a TFRecord file, without TensorFlow: every byte is read and every checksum is checked.

TensorFlow's own reader stops without a word at an empty member of a gzip file and where such a file is cut off.

Reference: TFRecord's format: uint64 length, uint32 masked CRC-32C of the length, the data, uint32 masked CRC of the
data; all little endian.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np

from tf_hqgnn.types import InputError

HEADER_BYTES = 12
# A record beyond it is no interaction.
_MAX_RECORD_BYTES = 64 << 20
_BATCH_ROWS = 4096
_BATCH_BYTES = 4 << 20
# Up to this length, the checksums of many records are computed side by side.
_SHORT_BYTES = 1024


def _make_table() -> list[int]:
    """The CRC-32C of each byte."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1)
    return [int(value) for value in values]


_TABLE = _make_table()
_TABLE_ARRAY = np.array(_TABLE, np.uint32)


def is_record_header(head: bytes) -> bool:
    """Whether a text of at least 12 bytes begins as a record does."""
    return len(head) >= HEADER_BYTES and int.from_bytes(head[8:12], "little") == _masked(_checksum(head[:8]))


def record_batches(stream: io.BufferedReader, name: str) -> Iterator[list[bytes]]:
    """Yields the records of a stream, some thousands at a time.

    Args:
      stream: decompressed.
      name: what messages call the file.

    Raises:
      InputError: It isn't TFRecord, is damaged or is cut off.
    """
    records: list[bytes] = []
    sums: list[int] = []
    size = count = 0
    while header := stream.read(HEADER_BYTES):
        length = int.from_bytes(header[:8], "little")
        if not is_record_header(header) or length > _MAX_RECORD_BYTES:
            what = "not a TFRecord file" if not count else f"damaged or cut off at record {count + 1}"
            raise InputError(f"{name}: {what}; copy the file again or write it anew")
        data = stream.read(length + 4)
        count += 1
        if len(data) < length + 4:
            raise InputError(f"{name}: cut off in record {count}; copy the file again or write it anew")
        records.append(data[:length])
        sums.append(int.from_bytes(data[length:], "little"))
        size += length
        if len(records) == _BATCH_ROWS or size >= _BATCH_BYTES:
            yield _checked(records, sums, count, name)
            records, sums, size = [], [], 0
    if records:
        yield _checked(records, sums, count, name)


def masked_checksums(records: Sequence[bytes]) -> list[int]:
    """The masked CRC-32C of each of some bytes.

    >>> [hex(value) for value in masked_checksums([b"123456789"])]
    ['0xc78ab0e5']
    """
    short = [row for row, record in enumerate(records) if len(record) <= _SHORT_BYTES]
    found = dict(zip(short, _short_checksums([records[row] for row in short])))
    plain = [found[row] if row in found else _checksum(record) for row, record in enumerate(records)]
    return [_masked(value) for value in plain]


def _masked(value: int) -> int:
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _checked(records: list[bytes], sums: list[int], count: int, name: str) -> list[bytes]:
    for row, (found, expected) in enumerate(zip(masked_checksums(records), sums)):
        if found != expected:
            number = count - len(records) + row + 1
            raise InputError(f"{name}: record {number} is damaged; copy the file again or write it anew")
    return records


def _short_checksums(records: list[bytes]) -> list[int]:
    """CRC-32C of each, a byte of all records at a time."""
    lengths = np.array([len(record) for record in records], np.int64)
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths)
    starts = (ends - lengths)[order]
    data = np.frombuffer(b"".join(records), np.uint8)
    sums = np.full(len(records), 0xFFFFFFFF, np.uint32)
    # The records that still have a byte at a position are the first ones in the order by length.
    active = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)), side="left")
    for position, size in enumerate(active.tolist()):
        bytes_here = data[starts[:size] + position]
        sums[:size] = _TABLE_ARRAY[(sums[:size] ^ bytes_here) & 0xFF] ^ (sums[:size] >> np.uint32(8))
    result = np.empty(len(records), np.uint32)
    result[order] = sums ^ np.uint32(0xFFFFFFFF)
    return [int(value) for value in result]


def _checksum(record: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in record:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF
