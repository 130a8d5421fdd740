"""What people hand over in the place of text, told by how it begins, and what to do about it."""

from __future__ import annotations

import re

from tf_hqgnn.types import InputError

_COMPRESS = "compress it with gzip, bzip2, xz or zstd instead"
_AGAIN = "download the file itself (a page may be what a server says instead of it), or write it as CSV"

_OTHERS = (
    (
        re.compile(rb"PAR1[^ -~\t\r\n]"),
        "a Parquet file",
        "give it the extension .parquet, uncompressed, or set data.format=parquet",
    ),
    (
        re.compile(rb"PK(\x03\x04|\x05\x06)"),
        "a ZIP archive or an Excel workbook",
        "unpack it, or save the table as CSV",
    ),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive", "unpack it"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", "unpack it"),
    (re.compile(rb"\x04\x22\x4d\x18"), "compressed with LZ4", _COMPRESS),
    (re.compile(rb"\x1f\x9d"), "compressed with compress (.Z)", _COMPRESS),
    (re.compile(rb"\xff\x06\0\0sNaPpY"), "compressed with Snappy", _COMPRESS),
    (re.compile(rb"ARROW1\0"), "an Arrow (Feather) file", "write it as CSV or Parquet"),
    (re.compile(rb"ORC[^ -~\t\r\n]"), "an ORC file", "write it as CSV or Parquet"),
    (re.compile(rb"Obj\x01"), "an Avro file", "write it as CSV or Parquet"),
    (re.compile(rb"SQLite format 3"), "a SQLite database", "export the table as CSV"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]"), "UTF-16", "expected UTF-8, save it as UTF-8"),
    (re.compile(rb"\{\s*[\"}]|\[\s*([\"{\[]|-?[0-9.]+\s*[,\]])"), "JSON", "write it as CSV or Parquet"),
    (re.compile(rb"\s*<(!DOCTYPE|!--|\?xml|[A-Za-z][A-Za-z0-9:]*[\s>/])", re.IGNORECASE), "HTML or XML", _AGAIN),
    (re.compile(rb"version https://git-lfs\."), "a pointer of Git LFS", "fetch the file itself with git lfs pull"),
    (re.compile(rb"%PDF-"), "a PDF document", "export the table as CSV"),
    (re.compile(rb"\{\\rtf"), "an RTF document", "save the table as CSV"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Excel workbook (.xls) or another Office file", "save the table as CSV"),
    (re.compile(rb"%%MatrixMarket"), "a sparse matrix (Matrix Market)", "write its entries as CSV with a header"),
    (re.compile(rb"\x93NUMPY"), "an array of NumPy (.npy)", "write it as CSV or Parquet"),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle of Python", "write it as CSV or Parquet"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "an image", "name the file with the table"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file", "write it as CSV or Parquet"),
    (re.compile(rb"\x5d\0\0[\0-\xff]{2}"), "compressed with LZMA (.lzma)", _COMPRESS),
)


def check_is_text(head: bytes, name: str) -> None:
    """Refuses what isn't text in UTF-8, or no table, as far as 512 bytes tell.

    Args:
      head: how the content begins.
      name: what messages call it.

    Raises:
      InputError: It says what the content is, and the cure.
    """
    for beginning, what, cure in _OTHERS:
        if beginning.match(head):
            raise InputError(f"{name}: the content is {what}; {cure}")
