"""Waiting for what another process or thread does."""

import time


def wait_for(condition, seconds):
    """Returns the first value of a condition that counts as true; fails if there is none within some seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
