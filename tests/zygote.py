"""A Python that imports the modules named as arguments, and forks for every command that it reads on standard input.

TensorFlow takes 3 s of a processor to import and TFX 15 s, a hundred commands of the tests do, and nothing in them
depends on who imported it. What is imported here must start no thread, for a fork has only one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from typing import Any, NoReturn

import pod_root


def main() -> None:
    # The folder of this file is none that a command would look into.
    del sys.path[0]
    # As collect_seldom of tf_hqgnn.startup does, which isn't to be imported here.
    gc.set_threshold(50_000, 10, 10)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    # A collection in a fork would copy every page of what is imported.
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _become(**json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(
    command: list[str], environment: dict[str, str], folder: str, out: str, err: str, pod: dict[str, Any] | None = None
) -> NoReturn:
    code = 1
    try:
        _take_over(environment, folder, out, err, pod)
        _run(command)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        # The end of the interpreter would take another second, to free what is imported.
        os._exit(code)


def _take_over(environment: dict[str, str], folder: str, out: str, err: str, pod: dict[str, Any] | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=environment.get("PYTHONIOENCODING", "utf-8"))
    if pod:
        pod_root.enter(**pod)
    os.chdir(folder)


def _run(command: list[str]) -> None:
    match command:
        case ["tf-hqgnn", *_]:
            from tf_hqgnn.cli.commands import main

            sys.argv = command
            main()
        case ["python", "-m", module, *arguments]:
            sys.path.insert(0, "")
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["python", "-c", code, *arguments]:
            sys.path.insert(0, "")
            sys.argv = ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
        case _:
            os.execvp(command[0], command)


if __name__ == "__main__":
    main()
