"""The same questions to a server, by a client that answers with the same tables."""

import pandas as pd
import polars as pl
import pytest

from tf_hqgnn import InputError
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.serving import Client, ServerUnavailable
from tf_hqgnn.serving.server import Server


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """Serves the model."""
    folder = tmp_path_factory.mktemp("served")
    model.save(folder / "run")
    export_exact(ServingBundle.from_run(RunDirectory.load(folder / "run")), folder / "export", ExportConfig(), 1)
    with Server(folder / "export", grpc_port=0, rest_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def address(server):
    """Where the model is served."""
    return f"127.0.0.1:{server.grpc_port}"


QUESTIONS = {
    "recommend": lambda model: model.recommend([100, 1, 207], k=4),
    "exclude and category": lambda model: model.recommend([100, 101], k=4, exclude=[[2], [4, 6]], category="even"),
    "histories": lambda model: model.recommend_for_history([[1, 2], [99999]], k=3),
    "named histories": lambda model: model.recommend_for_history({7: [1, 2]}, k=3),
    "similar": lambda model: model.similar_items([1, 2, 99999], k=3),
    "scores": lambda model: model.score([100, 1, 207], [1, 2, 99999]),
    "scores of lists": lambda model: model.score([100, 207], [[5], [1, 2, 99999]]),
    "similar users": lambda model: model.similar_users([100, 1, 207], k=3),
    "rerank": lambda model: model.rerank([100, 1], [4, 3, 99999, 2, 7, 30], k=4),
    "rerank of lists": lambda model: model.rerank([100, 101], [[1, 2, 3], [7]], k=2, allow_seen=[True, False]),
    "where": lambda model: model.recommend_where([100, 1], 4, exclude_category="even", popularity=[0, 1]),
    "where of lists": lambda model: model.recommend_where(
        [100, 101], 4, exclude=[[2], []], category=[["even"], ["odd", "even"]], diversity=[0, 0.9], allow_seen=True
    ),
    "explain": lambda model: model.explain([100, 1, 207, 101], [4, 4, 99999, 30], k=3),
    "with history": lambda model: model.recommend_with_history([100, 1, 2], [[1, 2], [7], []], k=3, exclude=[5]),
    "nobody": lambda model: model.recommend([], k=3),
}


@pytest.mark.parametrize("question", [name for name in QUESTIONS if name != "nobody"])
def test_the_tables_are_those_of_the_model_in_memory(address, model, items, question):
    with Client(address, items=items) as client:
        pd.testing.assert_frame_equal(QUESTIONS[question](client), QUESTIONS[question](model))


def test_arrays_and_embeddings(address, model):
    with Client(address) as client:
        for one, other in zip(
            client.recommend([100], k=4, as_arrays=True), model.recommend([100], k=4, as_arrays=True)
        ):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
        for one, other in zip(client.user_embeddings([100, 1]), model.user_embeddings([100, 1])):
            assert one.tolist() == other.tolist()


def test_types_of_ids(address):
    with Client(address) as client:
        assert client.recommend(["100"], k=1)["item_id"].map(type).tolist() == [str]
        assert list(client.recommend([], k=1)) == ["user_id", "rank", "item_id", "score", "known"]
    with Client(address, ids={"user_id": "str", "item_id": "int32"}) as client:
        table = client.recommend([100], k=1)
        assert (table["user_id"].tolist(), str(table["item_id"].dtype)) == (["100"], "int32")
    for ids, message in (({"user": "str"}, "'user' is not a column of ids"), ({"item_id": "date"}, "can't be of type")):
        with pytest.raises(InputError, match=message):
            Client(address, ids=ids)


def test_titles_of_polars_make_answers_of_polars(address, items):
    titles = pl.DataFrame({"item_id": items["item_id"].to_list(), "title": items["title"].to_list()})
    with Client(address, items=titles) as client:
        table = client.recommend([100], k=2)
    assert isinstance(table, pl.DataFrame)
    assert table["title"].to_list() == [f"Title {one}" for one in table["item_id"]]


def test_what_only_memory_has_is_refused(address):
    with Client(address) as client, pytest.raises(InputError, match="users: 'all' needs a model in this process"):
        client.recommend("all")


def test_nobody_answers():
    with Client("127.0.0.1:1", timeout=5) as client, pytest.raises(ServerUnavailable, match="nothing answers at"):
        client.recommend([1])
