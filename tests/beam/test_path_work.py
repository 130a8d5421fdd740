"""What goes between the workers of a path: messages, and what a worker must not load for them."""

import subprocess
import sys
from collections import deque

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.portability.api import beam_fn_api_pb2

from tf_hqgnn.beam.much_output import MessageQueue
from tf_hqgnn.beam.path.prepare import Sizes
from tf_hqgnn.beam.path.work import of_message, to_message


def rows(size):
    number = np.arange(size)
    return pa.table(
        {
            "user_id": pa.array([f"user-{one % 97}" for one in number]),
            "timestamp": pa.array(1.6e9 + number % 1000),
            "rating": pa.nulls(size, pa.float64()),
        }
    )


@pytest.mark.parametrize("size", [0, 1, 50, 50_000])
def test_a_message_is_the_rows_it_was_made_of(size):
    table = rows(size)
    assert of_message(to_message(table)).equals(table)


def test_many_rows_take_less_than_half_of_their_bytes():
    many = rows(50_000)
    assert len(to_message(many)) < many.nbytes / 2


def test_pieces_grow_with_the_root_of_the_log_and_never_vanish():
    small, large, hundredfold = (Sizes.of(size, columns=74) for size in (0, 27 * 10**9, 27 * 10**11))
    assert small == Sizes.of(10**6, columns=74)
    assert hundredfold.shard_bytes == pytest.approx(10 * large.shard_bytes, rel=1e-6)
    # Four bytes for each of the 74 columns of a block's rows are four pieces, and a piece is two shards of text.
    assert large.block_rows * 74 * 4 == pytest.approx(4 * 2 * large.shard_bytes, rel=1e-3)
    assert Sizes.of(10**6, columns=10**9).block_rows == 1


def test_a_worker_loads_no_tensorflow():
    steps = ("settle", "core", "numbering", "times", "parts", "products", "rows", "evaluate", "recommend")
    imports = "\n".join(f"import tf_hqgnn.beam.path.{step}" for step in steps)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys\n{imports}\nprint('tensorflow' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["False"]


def test_a_worker_sends_what_it_has_before_it_is_much():
    """In a process of its own, since Beam is changed in it."""
    program = """
from apache_beam.runners.worker.data_plane import ClosableOutputStream
from tf_hqgnn.beam.much_output import MuchOutput
def sent():
    found = []
    stream = ClosableOutputStream.create(None, found.append, 0)
    for _ in range(64):
        stream.write(bytes(100_000))
        stream.maybe_flush()
    return max(map(len, found), default=0)
before = sent()
MuchOutput().setup()
MuchOutput().setup()
print(before, sent())
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    # 6.4 MB are less than Beam waits for by itself.
    assert before == 0
    assert 1 << 20 < after < 1.2 * (1 << 20)


def test_what_nobody_takes_waits_on_disk_and_comes_in_order():
    """In a process of its own, since Beam is changed in it, and its memory is looked at."""
    program = """
import resource, threading, time
from apache_beam.runners.worker.data_plane import _GrpcDataChannel
from tf_hqgnn.beam.much_output import MuchOutput
MuchOutput().setup()
channel = _GrpcDataChannel()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
stream = channel.output_stream("instruction", "transform")
for number in range(600):
    stream.write(bytes([number % 251]) * 1_100_000)
    stream.maybe_flush()
stream.close()
channel.close()
found, ends = [], 0
for elements in channel._write_outputs():
    for data in elements.data:
        assert (data.instruction_id, data.transform_id) == ("instruction", "transform")
        ends += data.is_last
        if data.data:
            assert len(data.data) == 1_100_000 and data.data.count(data.data[:1]) == len(data.data)
            found.append(data.data[0])
print(found == [number % 251 for number in range(600)], ends, peak() - before, len(channel._to_send.queue))
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    is_equal, ends, more, left = found.stdout.split()
    assert (is_equal, ends, left) == ("True", "1", "0")
    # Of 660 MB.
    assert int(more) < 100_000_000


@pytest.mark.parametrize(("fails", "code"), [(True, 1), (False, 0)])
def test_a_worker_ends_with_a_channel_that_fails(fails, code):
    program = f"""
import time
from apache_beam.runners.worker.data_plane import _GrpcDataChannel
from tf_hqgnn.beam.much_output import MuchOutput
MuchOutput().setup()
channel = _GrpcDataChannel()
channel.output_stream("instruction", "transform")
def elements():
    if {fails}:
        raise ConnectionError
    yield from ()
try:
    channel._read_inputs(elements())
except ConnectionError:
    pass
time.sleep(2)
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert found.returncode == code, found.stderr


def test_messages_are_put_and_taken_in_any_order_of_calls():
    """Beside a plain queue, with messages small and large, and others than data."""
    rng = np.random.default_rng(5)
    expected, found = deque(), MessageQueue()
    for number in range(3000):
        # First it grows, then it shrinks, and both again.
        if expected and rng.random() < (0.35 if number // 750 % 2 == 0 else 0.65):
            assert found.popleft() == expected.popleft()
        else:
            kinds = (
                beam_fn_api_pb2.Elements.Data(instruction_id=str(number), data=rng.bytes(int(rng.integers(20_000)))),
                beam_fn_api_pb2.Elements.Data(instruction_id=str(number), is_last=True),
                beam_fn_api_pb2.Elements.Timers(instruction_id=str(number), timers=rng.bytes(5)),
            )
            message = kinds[int(rng.choice(3, p=[0.8, 0.1, 0.1]))]
            expected.append(message)
            found.append(message)
        assert len(found) == len(expected)
    assert [found.popleft() for _ in range(len(found))] == [*expected]


def test_what_marks_the_end_of_all_stays_the_same_object():
    """Beam looks for it by `is`."""
    end = beam_fn_api_pb2.Elements.Data()
    messages = MessageQueue([beam_fn_api_pb2.Elements.Data(data=bytes(10_000))] * 40)
    messages.append(end)
    assert [messages.popleft() for _ in range(41)][-1] is end
