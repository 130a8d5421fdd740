import socket

import grpc
import numpy as np
import pytest

from tf_hqgnn.serving.client import Client, LocalModel, ServerUnavailable
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.types import InputError


@pytest.fixture(scope="module")
def client(shared_server):
    with Client(f"127.0.0.1:{shared_server.grpc_port}") as client:
        yield client


def test_recommend(client):
    first, second = client.recommend(["a", "new"], k=2)
    assert (first.user_id, first.known_user, first.item_ids) == ("a", True, ("100-0", "100-1"))
    np.testing.assert_array_equal(first.scores, np.array([100, 99], np.float32))
    assert (second.user_id, second.known_user) == ("new", False)
    assert client.recommend([]) == []


def test_only_real_answers_come_back(client):
    [shared, _] = client.recommend(["a", "b"], k=3, exclude=["100-0", "100-2"], version=7)
    assert shared.item_ids == ("100-1",)
    assert shared.scores.tolist() == [99]
    first, second = client.recommend(["a", "b"], k=2, exclude=[["100-0", "100-1"], []])
    assert first.item_ids == ()
    assert second.item_ids == ("100-0", "100-1")


def test_categories(client):
    for answers in (
        client.recommend(["a", "b"], k=3, category=["even", ""]),
        client.recommend_for_history([["x"], ["x", "y"]], k=3, category=["even", ""]),
    ):
        assert [answer.item_ids for answer in answers] == [("100-0", "100-2"), ("100-0", "100-1", "100-2")]
    assert client.recommend(["a"], k=3, category="even")[0].item_ids == ("100-0", "100-2")


def test_recommend_for_history(client):
    first, second = client.recommend_for_history([["100-0"], []], k=2, exclude=["100-1"])
    assert (first.user_id, first.known_user, first.item_ids) == ("", True, ())
    assert (second.known_user, second.item_ids) == (False, ("100-0",))
    assert client.recommend_for_history([]) == []


def test_similar_items(client):
    [answer] = client.similar_items(["100-1"], k=3)
    assert (answer.item_id, answer.item_ids, answer.scores.tolist()) == ("100-1", ("100-0", "100-2"), [100, 98])
    assert [answer.known_item for answer in client.similar_items(["100-1", "new"])] == [True, False]
    assert client.similar_items([]) == []


def test_embed(client):
    embedding, known = client.embed(["ab", "new"])
    np.testing.assert_array_equal(embedding, np.array([[2, 102], [3, 103]], np.float32))
    assert known.tolist() == [True, False]


def test_status_and_metadata(client):
    assert client.status() == {7: ("AVAILABLE", "")}
    assert "k" in client.metadata()["recommend"].inputs


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.recommend("a"), "user_ids: expected a list of strings, got 'a'"),
        (lambda client: client.recommend([1]), "user_ids: expected a list of strings"),
        (lambda client: client.recommend(["a"], k=0), "k: expected at least 1, got 0"),
        (lambda client: client.recommend(["a"], exclude="x"), "exclude: expected a list of item ids"),
        (lambda client: client.recommend(["a"], exclude=[["x"], ["y"]]), "one list for each of the 1 users, got 2"),
        (lambda client: client.recommend(["a"], exclude=["x", ["y"]]), "not both at once"),
        (lambda client: client.recommend(["a"], exclude=[1]), "exclude: expected a list of strings, got 1"),
        (lambda client: client.recommend(["a"], category=["x", "y"]), "category: expected one for each of the 1 users"),
        (lambda client: client.similar_items(["a"], k=-1), "k: expected at least 1, got -1"),
        (lambda client: client.recommend(["a"], model="x"), r"Servable not found for request: Latest\(x\)"),
        (lambda client: client.recommend(["a"], version=9), r"Specific\(hqgnn, 9\)"),
        (
            lambda client: client.predict("x", {}),
            'Serving signature key "x" not found.*; if an older release of tf_hqgnn',
        ),
        (lambda client: client.score(["a"], ["x"]), 'key "score" not found.*exported the model, export the run again$'),
        (lambda client: client.similar_users(["a"]), 'Serving signature key "similar_users" not found'),
        (lambda client: client.explain(["a"], ["x"]), 'Serving signature key "explain" not found'),
        (lambda client: client.explain(["a"], []), "item_ids: expected one for each of the 1 users, got 0"),
        (lambda client: client.rerank(["a"], ["x"]), 'Serving signature key "rerank" not found'),
        (lambda client: client.recommend_where(["a"]), 'Serving signature key "recommend_where" not found'),
        (
            lambda client: client.recommend_where(["a"], diversity=-1),
            "diversity: expected a number from 0 to 1, or one",
        ),
        (lambda client: client.recommend_where(["a"], include="x"), "include: expected a list of item ids or one list"),
        (lambda client: client.rerank(["a"], ["x"], allow_seen=1), "allow_seen: expected True or False"),
        (
            lambda client: client.score(["a"], "x"),
            "item_ids: expected a list of item ids or one list per user, got 'x'",
        ),
        (
            lambda client: client.recommend_with_history(["a"], []),
            "histories: expected one list for each of the 1 users",
        ),
        (lambda client: client.status("x"), "Could not find any versions of model x"),
    ],
)
def test_mistakes_are_input_errors(client, call, message):
    with pytest.raises(InputError, match=message):
        call(client)


def test_other_errors_keep_their_code(client, shared_server, monkeypatch):
    monkeypatch.setattr(shared_server.manager, "lease", lambda *_: 1 / 0)
    with pytest.raises(ServingError, match="ZeroDivisionError") as caught:
        client.recommend(["a"])
    assert caught.value.code == grpc.StatusCode.INTERNAL


def test_no_server_is_explained():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            Client(address) as client,
            pytest.raises(ServerUnavailable, match=f"nothing answers at {address}: "),
        ):
            client.recommend(["a"])


def test_a_server_that_never_answers_runs_into_the_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.2) as client, pytest.raises(ServerUnavailable, match=r"within 0.2 s"):
            client.recommend(["a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "localhost"}, "expected the server's address as HOST:PORT, got 'localhost'"),
        ({"timeout": 0}, "expected a timeout > 0 seconds, got 0"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(InputError, match=message):
        Client(**arguments)


def test_a_local_model_answers_as_the_server_does(client, saved_models):
    with LocalModel(saved_models[100]) as model:
        for ask in (
            lambda source: source.recommend(["a", "new"], k=3, exclude=["100-1"]),
            lambda source: source.similar_items(["100-1"], k=3),
        ):
            for there, here in zip(ask(client), ask(model), strict=True):
                assert repr(there) == repr(here)
        np.testing.assert_array_equal(model.embed(["ab"])[0], client.embed(["ab"])[0])
        with pytest.raises(InputError, match='Serving signature key "x" not found'):
            model.predict("x", {})


def test_a_local_model_that_does_not_load_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"1 doesn't exist: expected a version of a model, such as EXPORT_DIR/hqgnn/1"):
        LocalModel(tmp_path / "1")
