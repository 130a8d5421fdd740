"""What may stand in the place of an input file: folders of parts, pipes, and files of other kinds."""

import gzip
import os
import socket
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.input_file import input_parts
from tf_hqgnn.data.interactions import check_file, read_interactions
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.types import InputError

HEADER = "user_id,item_id\n"
SHARES = {"a": [("u1", "i1"), ("u2", "i1")], "b": [("u3", "i2")], "c": []}


def pairs_of(table):
    inner = table.interactions
    return list(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index]))


def lines(rows):
    return HEADER + "".join(f"{user},{item}\n" for user, item in rows)


def spark_csv(folder):
    folder.mkdir()
    for name, rows in SHARES.items():
        (folder / f"part-0000{name}-6c9e-c000.csv").write_text(lines(rows))
        (folder / f".part-0000{name}-6c9e-c000.csv.crc").write_bytes(b"crc\0")
    (folder / "_SUCCESS").touch()


def spark_gzip(folder):
    folder.mkdir()
    for name, rows in SHARES.items():
        content = lines(rows) if rows else ""
        (folder / f"part-0000{name}.csv.gz").write_bytes(gzip.compress(content.encode()))
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()


def spark_parquet(folder):
    folder.mkdir()
    for name, rows in SHARES.items():
        columns = {key: pa.array([row[n] for row in rows], pa.utf8()) for n, key in enumerate(("user_id", "item_id"))}
        pq.write_table(pa.table(columns), folder / f"part-0000{name}-c000.gz.parquet", compression="gzip")
    (folder / "_SUCCESS").touch()
    (folder / "_metadata").write_bytes(b"PAR1")


def partitioned(folder):
    for number, (name, rows) in enumerate(SHARES.items()):
        (folder / f"day=2024-01-0{number + 1}").mkdir(parents=True)
        (folder / f"day=2024-01-0{number + 1}" / f"part-{name}.csv").write_text(lines(rows))
    (folder / "_SUCCESS").touch()


FOLDERS = [spark_csv, spark_gzip, spark_parquet, partitioned]


@pytest.mark.parametrize("write", FOLDERS)
def test_a_folder_of_part_files_is_one_log(tmp_path, write):
    write(tmp_path / "log")
    table = read_interactions(tmp_path / "log")
    assert pairs_of(table) == [("u1", "i1"), ("u2", "i1"), ("u3", "i2")]
    assert (table.report.rows_read, table.report.kept) == (3, 3)
    (profile,) = table.report.files
    assert (profile.name, profile.rows) == (str(tmp_path / "log"), 3)
    check_file(tmp_path / "log")


@pytest.mark.parametrize("write", FOLDERS)
def test_folders_stand_wherever_a_file_does(tmp_path, write):
    write(tmp_path / "train")
    write(tmp_path / "test")
    write(tmp_path / "valid")
    paths = {f"{name}_path": str(tmp_path / name) for name in ("train", "valid", "test")}
    dataset = load_dataset(DataConfig(**paths), seed=1)
    assert (len(dataset.train), dataset.report.rows_read, dataset.report.duplicate) == (3, 9, 6)


def test_a_span_may_be_a_folder_of_parts(tmp_path):
    for number in (1, 2):
        spark_csv(tmp_path / f"day-{number}")
    dataset = load_dataset(DataConfig(path=str(tmp_path / "day-{SPAN}")), seed=1)
    assert (dataset.report.rows_read, dataset.report.kept) == (6, 3)
    assert [file.span for file in dataset.report.files] == [1, 2]


def test_bad_rows_of_a_folder_are_told_with_their_part(tmp_path):
    spark_csv(tmp_path / "log")
    part = tmp_path / "log" / "part-0000b-6c9e-c000.csv"
    part.write_text(lines([("u3", "i2"), ("", "i2")]))
    with pytest.raises(InputError, match=rf"{part}: 1 bad row, 0 allowed: missing user_id 1 \(line 3\)"):
        read_interactions(tmp_path / "log")
    report = read_interactions(tmp_path / "log", max_bad_rows=1).report
    assert (list(report.bad), report.num_bad) == ([f"{part}: missing user_id"], 1)


def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    spark_csv(tmp_path / "log")
    (tmp_path / "log" / "part-d.csv").write_text("user_id,item_id,rating\nu,i,5\n")
    with pytest.raises(InputError, match=r"no column rating, which .*part-d\.csv has; expected the same columns"):
        read_interactions(tmp_path / "log")
    (tmp_path / "log" / "part-d.csv").rename(tmp_path / "log" / "part-d.inter")
    with pytest.raises(InputError, match=r"part-d\.inter: read as inter, but .*csv as csv; expected one format"):
        read_interactions(tmp_path / "log")


def test_folders_that_are_no_logs(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "_SUCCESS").touch()
    with pytest.raises(
        InputError, match=r"is a directory; expected a file .* or a folder with part files, and it holds"
    ):
        read_interactions(tmp_path / "none")
    (tmp_path / "deep" / "sub").mkdir(parents=True)
    with pytest.raises(InputError, match=r"deep: is a directory that holds the folder sub; expected part files .*"):
        read_interactions(tmp_path / "deep")
    (tmp_path / "key" / "user_id=7").mkdir(parents=True)
    with pytest.raises(InputError, match=r"user_id=7: the column user_id is in the folder's name, where it isn't read"):
        read_interactions(tmp_path / "key")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "part-0.csv").write_text(HEADER)
    with pytest.raises(InputError, match=r"empty: no interactions in 0 rows \(read as csv\)"):
        read_interactions(tmp_path / "empty")


@pytest.mark.parametrize(
    "name",
    [
        "log.csv.bak",
        "log.csv~",
        "#log.csv#",
        "log.csv.tmp",
        "log.csv.partial",
        "log2.csv._COPYING_",
        "b.csv.crdownload",
    ],
)
def test_backups_and_halves_of_files_are_refused(tmp_path, name):
    (tmp_path / "log.csv").write_text(lines(SHARES["a"]))
    (tmp_path / name).write_text(lines(SHARES["b"]))
    with pytest.raises(InputError, match=r"looks like a backup or a file that is still being written; expected"):
        read_interactions(tmp_path)
    (tmp_path / name).rename(tmp_path / f"_{name}")
    assert len(read_interactions(tmp_path)) == 2
    # Whoever names such a file means it.
    assert len(read_interactions(tmp_path / f"_{name}", "csv")) == 1


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("_temporary/0/task/part-1.csv", "Spark is still writing there"),
        ("_delta_log/0.json", "makes it a Delta table"),
        (".hoodie/x", "makes it a Hudi table"),
        ("_spark_metadata/0", "makes it a streaming output of Spark"),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_folders_that_something_else_knows_the_files_of(tmp_path, inside, message, is_finished):
    spark_csv(tmp_path / "log")
    if not is_finished:
        (tmp_path / "log" / "_SUCCESS").unlink()
    (tmp_path / "log" / inside).parent.mkdir(parents=True)
    (tmp_path / "log" / inside).touch()
    with pytest.raises(InputError, match=rf"log: .*{message}"):
        read_interactions(tmp_path / "log")


@pytest.mark.parametrize("name", ["category=Drama", "available=0", "title=", "Item_ID=1", "item%5Fid=1"])
def test_a_column_in_the_name_of_a_folder_of_items_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "p0.csv").write_text("item_id\ni1\n")
    with pytest.raises(InputError, match=r"the column .* is in the folder's name, where it isn't read"):
        read_items(tmp_path)
    (tmp_path / name).rename(tmp_path / "day=1")
    assert read_items(tmp_path).item_ids.tolist() == ["i1"]


@pytest.mark.parametrize("name", ["Rating=1", "rating=1", "user%5Fid=7", "timestamp=3"])
def test_a_column_in_the_name_of_a_folder_of_a_log_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "p0.csv").write_text(lines(SHARES["a"]))
    with pytest.raises(InputError, match=r"the column .* is in the folder's name, where it isn't read"):
        read_interactions(tmp_path)


def test_items_from_a_folder(tmp_path):
    spark_csv(tmp_path / "log")
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "_SUCCESS").touch()
    (tmp_path / "items" / "part-0.csv").write_text("item_id,title\ni1,One\n")
    (tmp_path / "items" / "part-1.csv.gz").write_bytes(gzip.compress(b"item_id,title\ni2,Two\n"))
    assert read_items(tmp_path / "items").title.tolist() == ["One", "Two"]
    config = DataConfig(path=str(tmp_path / "log"), items_path=str(tmp_path / "items"))
    assert load_dataset(config, seed=1).titles.tolist() == ["One", "Two"]
    (tmp_path / "items" / "part-1.csv.gz").write_bytes(gzip.compress(b"item_id,title\ni1,Two\n"))
    with pytest.raises(InputError, match=r"part-1\.csv\.gz line 2: item_id 'i1' came before in .*part-0\.csv line 2"):
        read_items(tmp_path / "items")
    (tmp_path / "items" / "part-1.csv.gz").write_bytes(gzip.compress(b"item_id\ni3\n"))
    with pytest.raises(InputError, match=r"columns item_id; expected item_id, title, as in the files before it"):
        read_items(tmp_path / "items")


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("read", [read_interactions, read_items, check_file, input_parts])
def test_a_pipe_is_refused_without_waiting_for_its_writer(fifo, read):
    with pytest.raises(InputError, match=r"pipe\.csv: not a regular file \(a pipe\), and input is read more than once"):
        read(fifo)


def test_the_shells_pipes_are_refused():
    read_end, write_end = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(write_end, lines(SHARES["a"]).encode()), os.close(write_end)))
    writer.start()
    try:
        with pytest.raises(InputError, match=r"not a regular file \(a pipe\).*write it to a file"):
            read_interactions(f"/dev/fd/{read_end}")
    finally:
        writer.join()
        os.close(read_end)


def test_devices_and_sockets_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"/dev/null: not a regular file \(a device\)"):
        read_interactions("/dev/null")
    # A socket's path has to be short.
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("s.csv")
        with pytest.raises(InputError, match=r"s\.csv: not a regular file \(a socket\)"):
            read_interactions(tmp_path / "s.csv")


def test_a_link_leads_to_its_file(tmp_path):
    (tmp_path / "log.csv").write_text(lines(SHARES["a"]))
    (tmp_path / "link.csv").symlink_to("log.csv")
    assert len(read_interactions(tmp_path / "link.csv")) == 2
    (tmp_path / "broken.csv").symlink_to("absent.csv")
    with pytest.raises(InputError, match=r"broken\.csv: no such file"):
        read_interactions(tmp_path / "broken.csv")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "log.csv").write_text(lines(SHARES["a"]))
    (tmp_path / "log.csv").chmod(0)
    with pytest.raises(InputError, match=r"log\.csv: permission denied; expected a file that this process may read"):
        read_interactions(tmp_path / "log.csv")


OTHERS = {
    "parquet": (b"PAR1" + b"\0" * 40, r"a Parquet file; give it the extension \.parquet"),
    "excel": (b"PK\x03\x04" + b"\0" * 40, "a ZIP archive or an Excel workbook; unpack it, or save the table as CSV"),
    "tar": (b"log.csv".ljust(257, b"\0") + b"ustar\x0000", "a tar archive; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "a 7-Zip archive; unpack it"),
    "lz4": (b"\x04\x22\x4d\x18" + b"\0" * 40, "compressed with LZ4; compress it with gzip"),
    "compress": (b"\x1f\x9d\x90abc", r"compressed with compress \(\.Z\); compress it with gzip"),
    "snappy": (b"\xff\x06\0\0sNaPpY\0", "compressed with Snappy; compress it with gzip"),
    "feather": (b"ARROW1\0\0", r"an Arrow \(Feather\) file; write it as CSV or Parquet"),
    "orc": (b"ORC\x11\0", "an ORC file; write it as CSV or Parquet"),
    "avro": (b"Obj\x01\x04", "an Avro file; write it as CSV or Parquet"),
    "sqlite": (b"SQLite format 3\0", "a SQLite database; export the table as CSV"),
    "UTF-16": ("user_id,item_id\nu,i\n".encode("utf-16"), "UTF-16; expected UTF-8, save it as UTF-8"),
    "UTF-16 without mark": ("user_id,item_id\nu,i\n".encode("utf-16-le"), "UTF-16; expected UTF-8"),
    "json": (b'{"user_id": "u", "item_id": "i"}\n', "JSON; write it as CSV or Parquet"),
}


@pytest.mark.parametrize(("content", "message"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.inter", "log.txt"])
def test_files_of_other_kinds_are_named(tmp_path, name, content, message):
    if name == "log.txt" and content.startswith(b"PAR1"):
        pytest.skip("read as Parquet, since the name says nothing else")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=rf"{name}: the content is {message}"):
        read_interactions(tmp_path / name)


@pytest.mark.parametrize("name", ["ORCID", "ORC", "PAR1", "ARROW1", "PK", "BZh9", "[x]"])
def test_columns_may_be_called_as_other_kinds_begin(tmp_path, name):
    (tmp_path / "log.csv").write_text(f"{name},user_id,item_id\n1,u,i\n")
    assert pairs_of(read_interactions(tmp_path / "log.csv")) == [("u", "i")]


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    (tmp_path / "log.txt").write_bytes("\ufeff1 1 2\n2 1\n".encode())
    assert pairs_of(read_interactions(tmp_path / "log.txt")) == [("1", "1"), ("1", "2"), ("2", "1")]


def test_the_literal_name_comes_before_the_notation_of_spans(tmp_path):
    (tmp_path / "{SPAN}.csv").write_text(lines(SHARES["a"]))
    (tmp_path / "1.csv").write_text(lines(SHARES["b"]))
    dataset = load_dataset(DataConfig(path=str(tmp_path / "{SPAN}.csv")), seed=1)
    assert dataset.user_ids.tolist() == ["u1", "u2"]


@pytest.mark.parametrize("name", ["log[1].csv", "log*.csv", "lo?.csv", "{a,b}.csv", "~.csv", "a b#c.csv"])
def test_names_mean_nothing_else(tmp_path, name):
    (tmp_path / name).write_text(lines(SHARES["a"]))
    assert load_dataset(DataConfig(path=str(tmp_path / name)), seed=1).report.kept == 2
