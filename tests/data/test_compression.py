"""Compressed logs: whole ones are read, cut or damaged ones never in part. The oracle is what was compressed."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.data.compression import compression_of, decompressed
from tf_hqgnn.data.input_file import open_input
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.types import InputError


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


KINDS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
NAMES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
ROWS = [(f"u{n % 97}", f"i{n * n % 1009}") for n in range(20_000)]
FORMATS = {
    "log.csv": "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in ROWS),
    "log.tsv": "user_id\titem_id\n" + "".join(f"{user}\t{item}\n" for user, item in ROWS),
    "log.inter": "user_id:token\titem_id:token\n" + "".join(f"{user}\t{item}\n" for user, item in ROWS),
    "log.txt": "".join(
        f"u{n} {' '.join(sorted({item for user, item in ROWS if user == f'u{n}'}))}\n" for n in range(97)
    ),
}


def pairs_of(table):
    inner = table.interactions
    return set(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


@pytest.mark.parametrize("extension", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_text_format_is_read_compressed(tmp_path, name, extension):
    path = tmp_path / f"{name}.{extension}"
    path.write_bytes(KINDS[extension](FORMATS[name].encode()))
    assert pairs_of(read_interactions(path)) == set(ROWS)


@pytest.mark.parametrize("extension", KINDS)
def test_the_content_tells_the_compression_whatever_the_name(tmp_path, extension):
    (tmp_path / "log.csv").write_bytes(KINDS[extension](FORMATS["log.csv"].encode()))
    (tmp_path / "log").write_bytes(KINDS[extension](FORMATS["log.txt"].encode()))
    assert pairs_of(read_interactions(tmp_path / "log.csv")) == set(ROWS)
    assert pairs_of(read_interactions(tmp_path / "log")) == set(ROWS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("extension", KINDS)
@pytest.mark.parametrize("left", [0.3, 0.9, -9, -4, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name, extension, left):
    data = KINDS[extension](FORMATS[name].encode())
    path = tmp_path / f"{name}.{extension}"
    path.write_bytes(data[: left if isinstance(left, int) else int(len(data) * left)])
    with pytest.raises(InputError, match=rf"{path.name}: the {NAMES[extension]} data ends too early.*copy") as caught:
        read_interactions(path, max_bad_rows=10**9)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extension", KINDS)
def test_a_damaged_file_is_refused(tmp_path, extension):
    data = bytearray(KINDS[extension](FORMATS["log.csv"].encode()))
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    (tmp_path / f"log.csv.{extension}").write_bytes(data)
    with pytest.raises(InputError, match=rf"log\.csv\.{extension}: the {NAMES[extension]} data (is damaged|ends too)"):
        read_interactions(tmp_path / f"log.csv.{extension}", max_bad_rows=10**9)


@pytest.mark.parametrize("extension", KINDS)
def test_several_streams_in_a_file_are_all_read(tmp_path, extension):
    """Programs that compress in parallel write such files, and `cat a.gz b.gz` does."""
    text = FORMATS["log.csv"].encode()
    parts = [KINDS[extension](text[:100]), KINDS[extension](text[100:30_000]), KINDS[extension](text[30_000:])]
    path = tmp_path / f"log.csv.{extension}"
    path.write_bytes(b"".join(parts))
    assert pairs_of(read_interactions(path)) == set(ROWS)
    # Damage in a later stream isn't taken for the end, as Python's own bz2 module does.
    path.write_bytes(parts[0] + parts[1] + b"garbage" + parts[2])
    with pytest.raises(InputError, match="data is damaged"):
        read_interactions(path, max_bad_rows=10**9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.sampled_from(list(KINDS)), st.integers(1, 5000))
def test_reading_in_pieces_of_any_size_gives_the_content(parts, extension, size):
    data = b"".join(map(KINDS[extension], parts))
    stream = decompressed(io.BytesIO(data), NAMES[extension], "x")
    read = b""
    while piece := stream.read(size):
        read += piece
    assert read == b"".join(parts)


@pytest.mark.parametrize("extension", KINDS)
def test_little_memory_is_needed_for_much_content(extension):
    data = KINDS[extension](b"\0" * (64 << 20))
    stream = decompressed(io.BytesIO(data), NAMES[extension], "x")
    assert len(stream.read(1000)) == 1000
    assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 20), b"")) == (64 << 20) - 1000


def test_a_name_that_promises_compression_is_held_to_it(tmp_path):
    (tmp_path / "log.csv.gz").write_text(FORMATS["log.csv"])
    with pytest.raises(InputError, match=r"log\.csv\.gz: the content isn't compressed with gzip, as the name says"):
        read_interactions(tmp_path / "log.csv.gz")


def test_what_is_compressed_twice_is_refused(tmp_path):
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(bz2.compress(FORMATS["log.csv"].encode())))
    with pytest.raises(InputError, match="compressed twice, the second time with bzip2; decompress it once"):
        read_interactions(tmp_path / "log.csv.gz")


def test_an_empty_file_stays_empty_when_it_is_compressed(tmp_path):
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match=r"no column user_id .*found: none"):
        read_interactions(tmp_path / "log.csv.gz")


def test_a_compressed_tfrecord_file_that_is_cut_between_records_is_refused(tmp_path):
    import tensorflow as tf

    def example(user):
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in (("user_id", user), ("item_id", b"x"))
        }
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    path = tmp_path / "log.tfrecord.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for number in range(50):
            writer.write(example(b"u%d" % number))
    whole = path.read_bytes()
    assert len(read_interactions(path)) == 50
    # The records are all there, but the checksum isn't: TensorFlow takes that for whole.
    path.write_bytes(whole[:-6])
    with pytest.raises(InputError, match="gzip data ends too early"):
        read_interactions(path)
    path.write_bytes(bz2.compress(gzip.decompress(whole)))
    assert len(read_interactions(path)) == 50


@pytest.mark.parametrize(("program", "extension"), [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")])
def test_what_the_common_programs_write(tmp_path, program, extension):
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    (tmp_path / "log.csv").write_text(FORMATS["log.csv"])
    subprocess.run([program, "-q", str(tmp_path / "log.csv")], check=True)
    with open_input(tmp_path / f"log.csv.{extension}") as stream:
        assert stream.read() == FORMATS["log.csv"].encode()


def test_text_that_begins_like_a_compressed_file_is_text():
    assert compression_of(b"BZh9,item_id\n") is None
    assert compression_of(b"") is None


def test_a_zstd_window_beyond_what_is_read_is_named(tmp_path):
    # RFC 8878: magic number, no flags, a window of 2 GiB, an empty last block.
    (tmp_path / "a.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")
    with pytest.raises(InputError, match=r"a\.csv\.zst: the zstd data needs a window that is larger than .*--long"):
        read_interactions(tmp_path / "a.csv.zst")
