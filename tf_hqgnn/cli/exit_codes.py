"""Ends a command with its exit code (0 done, 2 wrong usage or bad input, 1 anything else) and one line on failure."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from tf_hqgnn.cli.terminal import printable
from tf_hqgnn.files.failures import explain_failure
from tf_hqgnn.types import InputError

_NAME = "tf-hqgnn"
# How a command that was interrupted goes on; the others are simply run again.
_AFTER_CTRL_C = {
    "batch": "; the same command goes on",
    "train": "; a training goes on with --resume",
    "tune": "; a study goes on with --resume",
}


def run_to_exit(app: Any) -> NoReturn:
    """Runs a Typer application and ends the process.

    Typer's own messages of wrong usage are boxes of several lines, in which it takes what the user typed for markup;
    here they are a line as all others.

    Args:
      app: of Typer.
    """
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
        # Typer turns Ctrl-C into this code without a word.
        if status == 130:
            _say("interrupted" + _AFTER_CTRL_C.get(sys.argv[1] if len(sys.argv) > 1 else "", ""))
        sys.exit(status if isinstance(status, int) else 0)
    except InputError as error:
        _end(2, str(error))
    except UnicodeEncodeError as error:
        if "surrogates" not in error.reason:
            raise
        _end(2, f"{error.object!a} isn't UTF-8 text; expected an id in UTF-8")
    except (ArithmeticError, ConnectionError) as error:
        _end(1, str(error))
    except Exception as error:
        # Typer carries a click of its own since 0.27: what its mistakes have in common are these two.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            _end_by_usage(error)
        if isinstance(error, OSError) and _is_of_printing(error):
            _end_unprinted(error)
        explained = explain_failure(error)
        if explained is None:
            raise
        # What couldn't be written complains once more when it is thrown away.
        sys.unraisablehook = lambda _: None
        _end(1, explained)


def _is_of_printing(error: OSError) -> bool:
    """Whether an error comes from standard output: the commands themselves do nothing else that can fail so."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return error.filename is None and module.startswith(("tf_hqgnn.cli.", "rich."))


def _end_unprinted(error: OSError) -> NoReturn:
    # Python would try once more at its end, and complain at length.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    reason = (error.strerror or str(error)).lower()
    _end(1, f"standard output: {reason}; the command is done, only what it prints is lost")


def _end_by_usage(error: Any) -> NoReturn:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(error.exit_code)
    path = _NAME if context is None else " ".join([_NAME, *context.command_path.split()[1:]])
    _end(error.exit_code, f"{message.rstrip('.')}; see {path} --help")


def _end(status: int, message: str) -> NoReturn:
    _say(message)
    sys.exit(status)


def _say(message: str) -> None:
    sys.stderr.write(f"{_NAME}: {printable(message)}\n")
