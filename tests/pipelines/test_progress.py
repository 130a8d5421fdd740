import io
import logging

import pytest
from absl import logging as absl_logging

from pipelines.progress import ProgressHandler, show_progress


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture(autouse=True)
def shown(stream):
    with show_progress(ProgressHandler(3, stream)):
        yield


def test_a_component_gets_a_line(stream):
    absl_logging.info("Component %s is running.", "Transform")
    assert stream.getvalue() == "[1/3] Transform ... "
    absl_logging.info("Component %s is finished.", "Transform")
    assert stream.getvalue() == "[1/3] Transform ... 0.0 s\n"


def test_a_cached_one_says_so(stream):
    absl_logging.info("Component %s is running.", "Trainer")
    absl_logging.info("A cached execution %d is used.", 4)
    absl_logging.info("Component %s is finished.", "Trainer")
    assert stream.getvalue() == "[1/3] Trainer ... from the cache\n"


def test_the_line_of_one_that_prints_itself_is_closed_and_repeated(stream):
    absl_logging.info("Component %s is running.", "Trainer")
    absl_logging.info("Going to run a new execution %d", 4)
    assert stream.getvalue() == "[1/3] Trainer ... \n"
    absl_logging.info("Component %s is finished.", "Trainer")
    assert stream.getvalue() == "[1/3] Trainer ... \n[1/3] Trainer ... 0.0 s\n"


def test_only_errors_get_through_and_not_in_the_middle_of_a_line(stream, capsys):
    absl_logging.info("Component %s is running.", "Pusher")
    absl_logging.info("[Pusher] Resolved inputs: ...")
    absl_logging.warning("as always")
    absl_logging.error("Execution %d failed.", 3)
    assert stream.getvalue() == "[1/3] Pusher ... "
    absl_logging.error("disk %s", "full")
    assert stream.getvalue() == "[1/3] Pusher ... \n"
    assert capsys.readouterr().err == "error: disk full\n"


def test_the_log_is_as_before_afterwards():
    logger = absl_logging.get_absl_logger()
    handlers, verbosity = logger.handlers, absl_logging.get_verbosity()
    with show_progress(ProgressHandler(1, io.StringIO())):
        assert logger.handlers != handlers
    assert logger.handlers == handlers
    assert absl_logging.get_verbosity() == verbosity
    assert logging.getLogger("absl") is logger
