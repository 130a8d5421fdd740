"""What goes between the workers of a path: messages, and what a worker must not load for them."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

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
from tf_hqgnn.beam.small_messages import SmallMessages
def sent():
    found = []
    stream = ClosableOutputStream.create(None, found.append, 0)
    for _ in range(64):
        stream.write(bytes(100_000))
        stream.maybe_flush()
    return max(map(len, found), default=0)
before = sent()
SmallMessages().setup()
SmallMessages().setup()
print(before, sent())
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    # 6.4 MB are less than Beam waits for by itself.
    assert before == 0
    assert 1 << 20 < after < 1.2 * (1 << 20)


def test_a_worker_makes_no_more_while_nobody_takes_what_it_has_made():
    """In a process of its own, since Beam is changed in it."""
    program = """
import threading, time
from apache_beam.runners.worker.data_plane import _GrpcDataChannel
from tf_hqgnn.beam.small_messages import SmallMessages
SmallMessages().setup()
channel = _GrpcDataChannel()
def write():
    stream = channel.output_stream("instruction", "transform")
    for _ in range(200):
        stream.write(bytes(1_000_000))
        stream.maybe_flush()
    stream.close()
def begun():
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread
writer = begun()
while channel._to_send.qsize() < 10:
    time.sleep(0.01)
writer.join(0.5)
print(writer.is_alive(), channel._to_send.qsize())
elements = channel._write_outputs()
taken = 0
while taken < 200_000_000:
    taken += sum(len(data.data) for data in next(elements).data)
writer.join(10)
print(writer.is_alive(), taken)
# What is sent to nobody any more is no reason to wait.
channel._closed = True
last = begun()
last.join(10)
print(last.is_alive())
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    waits, waiting, ends, taken, still = found.stdout.split()
    assert (waits, ends, still) == ("True", "False", "False")
    assert int(waiting) < 20
    assert int(taken) == 200_000_000
