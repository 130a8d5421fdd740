"""A format that only this file knows of is named in the settings, told by its suffix or content, and read."""

import json

import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.data.chunks import chunk_from_lists
from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.types import InputError


class Events(InputFormat):
    """One JSON array a line, user then item."""

    suffixes = (".events",)

    def read(self, path, log):
        pairs = [json.loads(line) for line in path.read_text().splitlines()]
        yield chunk_from_lists([user for user, _ in pairs], [item for _, item in pairs], {}, ())

    def recognizes(self, lines):
        return lines[0].startswith(b'["')


@pytest.fixture
def events(tmp_path):
    INPUT_FORMATS.register("events")(Events)
    (tmp_path / "log.events").write_text('["a", "x"]\n["b", "y"]\n["a", "y"]\n')
    yield tmp_path / "log.events"
    INPUT_FORMATS.remove("events")


@pytest.mark.usefixtures("events")
def test_it_is_a_setting():
    assert Config().with_values({"data.format": "events"}).data.format == "events"
    with pytest.raises(InputError, match="expected one of auto, adjacency, csv, events, inter, parquet, tfrecord"):
        Config().with_values({"data.format": "excel"})


def test_it_is_told_and_read(events):
    assert detect_format(events) == "events"
    assert read_interactions(events).user_ids.tolist() == ["a", "b"]


def test_a_name_from_code_is_checked_as_in_the_settings(events):
    with pytest.raises(InputError, match="format 'excel': expected one of auto, adjacency, csv, events"):
        read_interactions(events, format="excel")
