"""The process of `supervisor.run_supervised`: `python -m tf_hqgnn.beam.job JOB FOLDER REASON_FILE [Beam flag ...]`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.logs import quieten_libraries

# Prism fails a job whose worker dies within a step.
_LOST_BY_PRISM = "SDK worker disconnected"


def main() -> None:
    """Runs the job of a folder; ends as soon as a worker process does. What is wrong goes to the file of reasons."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quieten_libraries()
    quieten_beam()
    from tf_hqgnn.beam import batch, propagation
    from tf_hqgnn.beam.flags import is_prism, parse_flags
    from tf_hqgnn.beam.running import PipelineFailed
    from tf_hqgnn.beam.supervisor import FAILED, MISTAKE, WORKER_DIED
    from tf_hqgnn.beam.worker_watch import watch_workers
    from tf_hqgnn.types import InputError

    job, folder, reason, *flags = sys.argv[1:]
    run_folder = {"batch": batch.run_folder, "propagation": propagation.run_folder}[job]

    def end(status: int, why: str = "") -> None:
        # Not by the interpreter's own end: it would wait for Beam's threads, which wait for workers to leave.
        Path(reason).write_text(why, encoding="utf-8")
        sys.stderr.flush()
        os._exit(status)

    # A thread of Beam's waits for each worker process, and raises if its exit code isn't 0.
    threading.excepthook = lambda failure: end(WORKER_DIED, f"{failure.exc_value}")
    try:
        options = parse_flags(flags)
        if is_prism(options):
            watch_workers(lambda why: end(WORKER_DIED, why))
        run_folder(folder, options)
    except InputError as error:
        end(MISTAKE, str(error))
    except PipelineFailed as error:
        end(WORKER_DIED if _LOST_BY_PRISM in str(error) else FAILED, str(error))
    except Exception:
        end(FAILED, traceback.format_exc())
    end(0)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
