"""A Python that has imported TFX and forks for every `python -m MODULE ARGUMENTS` that it reads on standard input.

TFX takes 15 s of a processor to import, ten steps do, and nothing in them depends on who imported it.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback

import tf_hqgnn  # noqa: F401  Keras 2, before TensorFlow is imported.


def main() -> None:
    import tensorflow_transform  # noqa: F401
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor  # noqa: F401

    for line in sys.stdin:
        process = os.fork()
        if not process:
            _become(**json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(command: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    python, minus_m, module, *arguments = command
    assert (python, minus_m) == ("python", "-m"), command
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
