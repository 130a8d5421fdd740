"""The process of a search with several jobs. Light to import, so that it can quieten TensorFlow before loading it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.logs import quieten_libraries, start_xla


def work(dataset: SplitDataset, connection: Connection) -> None:
    """Takes `(index, config, folder)` from the connection and sends `(index, outcome)` back, until it is killed."""
    # Ctrl-C reaches the whole group; the search's process stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quieten_libraries()
    from tf_hqgnn.tuning.trials import run_trial

    start_xla()
    while True:
        index, config, folder = connection.recv()
        connection.send((index, run_trial(dataset, config, folder)))


def _end_with_parent() -> None:
    """So that a killed search leaves no training behind that writes into the folders of the resumed one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
