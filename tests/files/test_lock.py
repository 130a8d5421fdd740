import logging
import os
import subprocess
import sys
import threading

import pytest

from tf_hqgnn.files.lock import locked, waited_for
from tf_hqgnn.types import InputError

HOLDER = """
import sys
from pathlib import Path
from tf_hqgnn.files.lock import locked
with locked(Path(sys.argv[1]), "refused"):
    print("held", flush=True)
    sys.stdin.read(1)
"""


@pytest.fixture
def held_elsewhere(tmp_path):
    """A lock that another process holds, and that process."""
    path = tmp_path / "folder" / ".lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


@pytest.mark.integration
def test_a_second_process_is_refused_until_the_first_ends(held_elsewhere):
    path, process = held_elsewhere
    with pytest.raises(InputError, match=r"^in use$"), locked(path, "in use"):
        pytest.fail("two hold it")
    process.kill()
    process.wait()
    with locked(path, "in use"):
        pass


@pytest.mark.integration
def test_a_second_process_waits_and_says_so(held_elsewhere, caplog):
    path, process = held_elsewhere
    order = []

    def write():
        with waited_for(path, "the thing"):
            order.append("second")

    with caplog.at_level(logging.INFO, "tf_hqgnn"):
        thread = threading.Thread(target=write)
        thread.start()
        while not caplog.messages:
            thread.join(0.01)
        order.append("first")
        process.stdin.write("x")
        process.stdin.flush()
        thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == ["another process is writing the thing; waiting until it is done"]


def test_two_threads_of_a_process_exclude_each_other(tmp_path):
    refused = []

    def second():
        try:
            with locked(tmp_path / "lock", "in use"):
                pass
        except InputError as error:
            refused.append(str(error))

    with locked(tmp_path / "lock", "in use"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused == ["in use"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError), locked(tmp_path / "lock", "in use"):
        pass
