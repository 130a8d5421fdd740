"""What is joined, what isn't, and what happens when there is too much."""

import threading
import time
from concurrent import futures

import numpy as np
import pytest

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.core.protobuf import meta_graph_pb2

from tf_hqgnn.serving.batching import Batcher, BatchingParameters
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.types import InputError

SHAPES = {"k": (tf.int32, []), "lists": (tf.string, [None, None]), "user": (tf.string, [None])}


class Model:
    """Answers each user with its name, its list and k; holds its first call until told to go on, and notes all calls.

    A user "bad" fails the call it is in.
    """

    def __init__(self, outputs=("answer",)):
        definition = meta_graph_pb2.SignatureDef()
        for name, (dtype, shape) in SHAPES.items():
            definition.inputs[name].dtype = dtype.as_datatype_enum
            definition.inputs[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        for name in outputs:
            definition.outputs[name].tensor_shape.CopyFrom(tf.TensorShape([None]).as_proto())
        self.signature = Signature(definition, self.call)
        self.calls = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def call(self, k, lists, user):
        self.calls.append((int(k), lists.tolist(), user.tolist()))
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(60)
        if b"bad" in user:
            raise tf.errors.InvalidArgumentError(None, None, "a bad user")
        texts = [b"%s:%d:%s" % (one, k, b",".join(filter(None, row))) for one, row in zip(user, lists, strict=True)]
        return [np.array(texts, object)]


def arrays(users, k=1, lists=None):
    rows = [[b""]] * len(users) if lists is None else lists
    user = np.empty(len(users), object)
    user[:] = [one.encode() for one in users]
    return [np.array(k, np.int32), np.array(rows, object), user]


def answer(outputs):
    return [text.decode() for text in outputs["answer"]]


class Busy:
    """A batcher of one worker that is held in a first call, so that all that comes later queues up."""

    def __init__(self, **settings):
        self.model = Model()
        self.batcher = Batcher(BatchingParameters(num_batch_threads=1, **settings))
        self.first = self.ask(["first"])
        assert self.model.begun.wait(60)

    def ask(self, users, finish=answer, deadline=None, **inputs):
        return self.batcher.submit("m", self.model.signature, arrays(users, **inputs), finish, deadline)

    def go_on(self):
        self.model.go_on.set()
        self.batcher.stop()


@pytest.fixture
def busy():
    made = []

    def make(**settings):
        made.append(Busy(**settings))
        return made[-1]

    yield make
    for one in made:
        one.go_on()


def test_what_waits_is_joined_and_every_request_gets_its_own(busy):
    server = busy()
    waiting = [server.ask([f"u{n}"] * (1 + n % 3), lists=[[b"x", b"y"][: 1 + n % 2]] * (1 + n % 3)) for n in range(6)]
    server.go_on()
    lists = ["x", "x,y"]
    assert [one.result(60) for one in waiting] == [[f"u{n}:1:{lists[n % 2]}"] * (1 + n % 3) for n in range(6)]
    assert server.first.result(60) == ["first:1:"]
    assert len(server.model.calls) == 2
    # The narrow lists are padded with "".
    assert server.model.calls[1][1][0] == [b"x", b""]


def test_a_request_goes_at_once_when_a_worker_is_free(busy):
    """However patient the batcher could be: one that waited would wait for ever, since nothing else comes."""
    server = busy()
    server.model.go_on.set()
    for number in range(3):
        assert server.ask([f"u{number}"]).result(60) == [f"u{number}:1:"]
    assert [users for _, _, users in server.model.calls] == [[b"first"], [b"u0"], [b"u1"], [b"u2"]]


def test_different_k_and_different_signatures_are_not_joined(busy):
    server = busy()
    other = Model()
    other.begun.set()
    waiting = [server.ask(["a"], k=1), server.ask(["b"], k=2), server.ask(["c"], k=1)]
    elsewhere = server.batcher.submit("other", other.signature, arrays(["d"]), answer)
    server.go_on()
    assert [one.result(60) for one in waiting] == [["a:1:"], ["b:2:"], ["c:1:"]]
    assert elsewhere.result(60) == ["d:1:"]
    assert [users for _, _, users in server.model.calls[1:]] == [[b"a", b"c"], [b"b"]]
    assert [users for _, _, users in other.calls] == [[b"d"]]


def test_without_padding_only_equal_widths_are_joined(busy):
    server = busy(pad_variable_length_inputs=False)
    waiting = [server.ask([user], lists=[[b"x"] * width]) for user, width in (("a", 1), ("b", 2), ("c", 1))]
    server.go_on()
    assert [one.result(60) for one in waiting] == [["a:1:x"], ["b:1:x,x"], ["c:1:x"]]
    assert [users for _, _, users in server.model.calls[1:]] == [[b"a", b"c"], [b"b"]]


def test_inputs_of_different_rows_are_never_joined(busy):
    """2 users with 1 list and 1 user with 2 lists make 3 of each: joined they would shift each other's rows."""
    server = busy()
    waiting = [server.ask(["a", "b"], lists=[[b"x"]]), server.ask(["c"], lists=[[b"y"], [b"z"]])]
    server.go_on()
    for one in waiting:
        with pytest.raises(ValueError, match="zip"):
            one.result(60)
    assert len(server.model.calls) == 3


def test_batches_keep_to_their_size_and_a_larger_request_runs_in_parts_between_others(busy):
    server = busy(max_batch_size=4)
    large = [f"c{number}" for number in range(9)]
    waiting = [server.ask(["a"] * 3), server.ask(["b"] * 2), server.ask(large, k=3), server.ask(["d"])]
    server.go_on()
    assert [len(one.result(60)) for one in waiting] == [3, 2, 9, 1]
    assert waiting[2].result(60) == [f"{user}:3:" for user in large]
    assert [len(users) for _, _, users in server.model.calls[1:]] == [3, 4, 3, 4, 1]


def test_rows_that_ask_for_much_share_a_call_with_few(busy):
    """A call of 64 rows that want 4,096 answers each would hold up everybody for seconds."""
    server = busy()
    waiting = [server.ask(["a"] * 5, k=4000), *(server.ask([user], k=4000) for user in "bcd"), server.ask(["e"], k=1)]
    server.go_on()
    assert [len(one.result(60)) for one in waiting] == [5, 1, 1, 1, 1]
    calls = [(len(users), k) for k, _, users in server.model.calls[1:]]
    assert sorted(calls) == [(1, 1), (1, 4000), (1, 4000), (2, 4000), (2, 4000), (2, 4000)]
    assert calls.index((1, 1)) < 3


def test_large_requests_leave_the_queue_to_small_ones(busy):
    server = busy(max_batch_size=2, max_enqueued_batches=2)
    large = server.ask(["a"] * 50)
    with pytest.raises(ServingError, match="50 rows wait, 4 may"):
        server.ask(["b"] * 3)
    small = server.ask(["c"] * 2)
    server.go_on()
    assert (len(large.result(60)), len(small.result(60))) == (50, 2)
    assert [len(users) for _, _, users in server.model.calls[1:4]] == [2, 2, 2]
    assert b"c" in server.model.calls[3][2] or b"c" in server.model.calls[2][2]


def test_a_large_request_with_a_bad_row_fails_once_and_no_more_of_it_is_run(busy):
    server = busy(max_batch_size=2)
    large = server.ask(["a", "a", "bad", "a", "a", "a"])
    with pytest.raises(ServingError, match="a bad user"):
        server.model.go_on.set() or large.result(60)
    server.go_on()
    assert sum(len(users) for _, _, users in server.model.calls) <= 5


def test_an_empty_request_runs_alone(busy):
    server = busy()
    waiting = [server.ask([], lists=np.empty((0, 1), object)), server.ask(["a"])]
    server.go_on()
    assert [one.result(60) for one in waiting] == [[], ["a:1:"]]


def test_one_request_that_fails_does_not_fail_the_others(busy):
    server = busy()
    waiting = [server.ask([user]) for user in ("a", "bad", "b")]
    server.go_on()
    assert waiting[0].result(60) == ["a:1:"]
    assert waiting[2].result(60) == ["b:1:"]
    with pytest.raises(ServingError, match="a bad user"):
        waiting[1].result(60)


def test_an_answer_that_can_not_be_written_fails_alone(busy):
    server = busy()
    waiting = [server.ask(["a"], finish=lambda _outputs: 1 / 0), server.ask(["b"])]
    server.go_on()
    with pytest.raises(ZeroDivisionError):
        waiting[0].result(60)
    assert waiting[1].result(60) == ["b:1:"]


def test_a_full_queue_refuses_and_recovers(busy):
    server = busy(max_batch_size=2, max_enqueued_batches=2)
    waiting = [server.ask([f"u{number}"]) for number in range(4)]
    for _ in range(36):
        with pytest.raises(ServingError, match=r"queue .* is full: 4 rows wait, 4 may; try again later") as caught:
            server.ask(["late"])
        assert (caught.value.code.name, caught.value.http_status) == ("UNAVAILABLE", 503)
    server.model.go_on.set()
    assert [one.result(60) for one in waiting] == [[f"u{number}:1:"] for number in range(4)]
    assert server.ask(["late"]).result(60) == ["late:1:"]


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(busy):
    server = busy(max_batch_size=2, max_enqueued_batches=2)
    large = server.ask(["a"] * 5)
    server.go_on()
    assert len(large.result(60)) == 5


def test_what_is_too_late_or_cancelled_is_not_run(busy):
    server = busy()
    late = server.ask(["late"], deadline=time.monotonic())
    gone = server.ask(["gone"])
    assert gone.cancel()
    in_time = server.ask(["in time"], deadline=time.monotonic() + 3600)
    server.go_on()
    assert in_time.result(60) == ["in time:1:"]
    with pytest.raises(ServingError, match="the deadline passed before") as caught:
        late.result(60)
    assert (caught.value.code.name, caught.value.http_status) == ("DEADLINE_EXCEEDED", 504)
    assert [users for _, _, users in server.model.calls] == [[b"first"], [b"in time"]]


def test_with_a_timeout_requests_wait_for_a_full_batch():
    """An hour's patience: it goes because the batch is full, or because the batcher stops."""
    model = Model()
    model.begun.set()
    batcher = Batcher(BatchingParameters(max_batch_size=3, batch_timeout_micros=3_600_000_000, num_batch_threads=2))
    waiting = [batcher.submit("m", model.signature, arrays([user]), answer) for user in "abcd"]
    assert futures.wait(waiting[:3], 60).not_done == set()
    assert not waiting[3].done()
    batcher.stop()
    assert waiting[3].result(60) == ["d:1:"]
    assert sorted(len(users) for _, _, users in model.calls) == [1, 3]
    with pytest.raises(ServingError, match="the server is stopping"):
        batcher.submit("m", model.signature, arrays(["e"]), answer)


@pytest.mark.parametrize(("workers", "micros"), [(1, 0), (3, 0), (3, 300)])
def test_many_threads_get_their_own_answers(workers, micros):
    model = Model()
    model.begun.set()
    settings = {"num_batch_threads": workers, "batch_timeout_micros": micros}
    batcher = Batcher(BatchingParameters(max_batch_size=8, max_enqueued_batches=1000, **settings))
    with futures.ThreadPoolExecutor(16) as pool:
        asked = range(2000)
        answers = pool.map(
            lambda n: batcher.submit("m", model.signature, arrays([f"u{n}"], k=n % 3), answer).result(60), asked
        )
        assert list(answers) == [[f"u{n}:{n % 3}:"] for n in asked]
    batcher.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size: expected at least 1, got 0"),
        ({"num_batch_threads": 0}, "num_batch_threads: expected at least 1, got 0"),
        ({"max_enqueued_batches": -1}, "max_enqueued_batches: expected at least 1, got -1"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros: expected at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_explained(settings, message):
    with pytest.raises(InputError, match=message):
        BatchingParameters(**settings)
