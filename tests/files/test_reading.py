"""Nothing that is read can run code, or be larger than it looks."""

from pathlib import Path

import numpy as np
import pytest

from tf_hqgnn.files.reading import read_array, read_arrays, read_json, read_text
from tf_hqgnn.types import InputError


def test_what_was_written_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.ones(2))
    assert {name: array.tolist() for name, array in read_arrays(tmp_path / "a.npz", cure="").items()} == {
        "x": [0, 1, 2],
        "y": [1.0, 1.0],
    }
    assert list(read_arrays(tmp_path / "a.npz", "y", cure="")) == ["y"]


def test_an_array_that_is_missing_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    with pytest.raises(InputError, match=r"a\.npz: the file is damaged \(.*user.*\); train again$"):
        read_arrays(tmp_path / "a.npz", "user", cure="train again")


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_pickled_objects_are_refused(tmp_path, name):
    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return Path.touch, (ran,)

    values = np.array([Attack()], dtype=object)
    if name == "a.npz":
        np.savez(tmp_path / name, user=values)
    else:
        np.save(tmp_path / name, values)
    with pytest.raises(InputError, match="allow_pickle=False"):
        read_array(tmp_path / name, cure="") if name == "a.npy" else read_arrays(tmp_path / name, cure="")
    assert not ran.exists()
    with (tmp_path / name).open("rb") as file:
        np.load(file, allow_pickle=True)["user" if name == "a.npz" else ...]
    assert ran.exists(), "the attack must work where it isn't refused"


def test_a_compressed_archive_is_refused_before_it_fills_the_memory(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", user=np.zeros((1000, 1000)))
    with pytest.raises(InputError, match=r"bomb\.npz: the file is damaged \(it is compressed, .* 8,000,\d+ bytes\)"):
        read_arrays(tmp_path / "bomb.npz", cure="")


def test_a_shape_that_is_larger_than_its_content_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(8))
    content = (tmp_path / "a.npy").read_bytes()
    for shape in (b"(9,)", b"(8000000000000,)", b"(80000000000000000000,)"):
        head = content[:128].replace(b"(8,), }", shape + b", }")[:127].ljust(127) + b"\n"
        (tmp_path / "b.npy").write_bytes(head + content[128:])
        with pytest.raises(InputError, match=r"b\.npy: the file is damaged"):
            read_array(tmp_path / "b.npy", cure="")


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000, "{'a': 1}", "\udcff"])
def test_json_that_is_no_object_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"^[^\n]*a\.json: the file is damaged \([^\n]*\); delete it$"):
        read_json(path, cure="delete it")


def test_files_that_are_not_there_or_not_readable(tmp_path):
    with pytest.raises(InputError, match=r"a: no such file; copy it$"):
        read_text(tmp_path / "a", cure="copy it")
    with pytest.raises(InputError, match=r"is a directory; copy it$"):
        read_text(tmp_path, cure="copy it")
