"""Variables of SavedModels by the attributes that lead to them, in today's exports and in those of version 0.1."""

import tarfile
from pathlib import Path

import pytest
from export_oracle import BLANK_OF_0_1, coded_bundle

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.layout import ITEM_IDS, USER_IDS
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.types import InputError

# See `test_reader.EXPORT_OF_0_1`.
BUNDLE = coded_bundle(4, 4, dim=20, per_tensor=True)


@pytest.fixture(scope="module", params=["0.1", "today"])
def model_dir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    if request.param == "today":
        return export_exact(BUNDLE, folder, ExportConfig(), 1)
    with tarfile.open(Path(__file__).parent / "data" / "export_of_0_1.tar.xz") as archive:
        archive.extractall(folder)
    return folder / "hqgnn" / "1"


def test_ids_are_found_and_counted(model_dir, request):
    stored = StoredModel(str(model_dir))
    assert USER_IDS in stored
    assert ITEM_IDS in stored
    assert (stored.size(USER_IDS), stored.size(ITEM_IDS)) == (30, 40)
    is_old = "0.1" in request.node.name
    names = [BLANK_OF_0_1.get(name, name) if is_old else name for name in BUNDLE.user_ids]
    assert stored.read(USER_IDS).tolist() == [name.encode() for name in names]


def test_planes_and_words_are_counted(model_dir):
    stored = StoredModel(model_dir)
    # 4 bits; 20 dimensions are a word of 16 and one of 8 bits, or one of 32: each has a variable of a number an item.
    assert stored.length("items/words") == 4
    words = [stored.read(f"items/words/0/{word}") for word in range(stored.length("items/words/0"))]
    assert sum(8 * word.dtype.itemsize for word in words) >= 20
    assert {word.shape for word in words} == {(40,)}
    assert stored.length("users/nothing") == 0


def test_what_is_not_there(model_dir):
    stored = StoredModel(model_dir)
    assert "items/values" not in stored
    assert "items" not in stored, "that holds variables, and is none"
    with pytest.raises(InputError, match="has no variable items/values: expected a model that `tf-hqgnn export` wrote"):
        stored.read("items/values")


def test_what_is_not_a_model(tmp_path):
    with pytest.raises(InputError, match="the variables of this SavedModel can't be read"):
        StoredModel(tmp_path)
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"not an index")
    with pytest.raises(InputError, match="the variables of this SavedModel can't be read"):
        StoredModel(tmp_path)
