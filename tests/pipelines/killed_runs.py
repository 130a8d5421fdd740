"""Pipeline runs that are killed where a test says: a process that has imported everything and forks for each run.

A line of JSON on standard input is a run: `arguments` of run_local, and `kill`, a component before whose start, or the
moment of a push at which, the run gets SIGKILL; null lets it end. A line of JSON on standard output answers: `signal`
or `code`, and what it printed.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipelines import run_local
from pipelines.progress import quieten_tfx


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kill):
    """Makes this process die at the given place."""
    if kill == "between the renames":
        rename, pushed = os.rename, []

        def rename_once(source, destination):
            # A version: MODEL/.tmp-... becomes MODEL/<number>.
            if Path(destination).name.isdecimal():
                if pushed:
                    die()
                pushed.append(destination)
            rename(source, destination)

        os.rename = rename_once
    elif kill == "before the pointer":
        from tf_hqgnn.tfx import pusher

        pusher.write_pointer = die
    elif kill == "after the pointer":
        from tf_hqgnn.tfx import pusher

        pusher.remove_states = die
    elif kill is not None:
        from tfx.orchestration.portable import launcher

        launch = launcher.Launcher.launch

        def launch_unless(self):
            if self._pipeline_node.node_info.id == kill:
                die()
            return launch(self)

        launcher.Launcher.launch = launch_unless


def main():
    quieten_tfx()
    # What a run imports, once for all of them.
    for name in ("tfx.orchestration.local.local_dag_runner", "pipelines.pipeline", "pipelines.run_record"):
        importlib.import_module(name)
    answers = os.dup(1)
    for line in sys.stdin:
        wanted = json.loads(line)
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                arm(wanted["kill"])
                code = run_local.main(wanted["arguments"])
                sys.stdout.flush()
                os._exit(code)
            _, status = os.waitpid(child, 0)
            output.seek(0)
            answer = {"code": None, "signal": None, "output": output.read()}
        if os.WIFSIGNALED(status):
            answer["signal"] = os.WTERMSIG(status)
        else:
            answer["code"] = os.WEXITSTATUS(status)
        os.write(answers, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
