"""A worker of prism that dies is noticed: it is a process that a child of the job's process has started."""

import subprocess
import sys

PROGRAM = """
import os, queue, signal, subprocess, sys
from tf_hqgnn.beam.worker_watch import grandchildren, watch_workers

deaths = queue.Queue()
watch_workers(deaths.put, grace_seconds=0.1)
assert grandchildren() == set()
child = subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '600'])"])
while not (workers := grandchildren()):
    pass
# The watch looks once a second.
try:
    raise SystemExit(deaths.get(timeout=3))
except queue.Empty:
    pass
(worker,) = workers
os.kill(worker, signal.SIGKILL)
print(worker, deaths.get(timeout=100), sep=": ")
"""


def test_a_dead_worker_is_noticed_and_a_living_one_is_not():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True, start_new_session=True
    )
    worker = done.stdout.partition(":")[0]
    assert done.stdout == f"{worker}: the Python worker with the id {worker} died\n"
