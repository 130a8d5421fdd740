"""Commands whose files and folders are those of this machine, but for a few options that take object stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from tf_hqgnn.files.stores import refuse_stores

# What the help calls an option's value if it is a file or folder of this machine.
_NAMES_A_FILE = re.compile(r"FILE|FOLDER|DIR|LOG|SAVED_MODEL|PEM|\.(yaml|csv|parquet)")
# Command -> parameters for which its own code says what stores they may name: Apache Beam's, or the steps' volumes.
_TAKE_STORES = {
    "train": {"recommendations"},
    "batch": {"model", "users", "out"},
    "compile": {"model_config_file"},
}


class LocalPaths(TyperCommand):
    """A command that refuses s3://, gs:// and the like for its files and folders, before it does anything."""

    def invoke(self, ctx: Any) -> Any:
        """See click."""
        for parameter in self.params:
            value = ctx.params.get(str(parameter.name))
            is_path = isinstance(value, Path) or (value and _NAMES_A_FILE.search(str(parameter.metavar or "")))
            if is_path and parameter.name not in _TAKE_STORES.get(str(self.name), ()):
                is_option = parameter.param_type_name == "option"
                refuse_stores({parameter.opts[0] if is_option else str(parameter.metavar): value})
        return super().invoke(ctx)


def with_local_paths(kind: type[TyperCommand] | None) -> type[TyperCommand]:
    """Returns a kind of command (None: the usual one) that refuses stores besides what it does."""
    if kind is None or issubclass(kind, LocalPaths):
        return kind or LocalPaths
    return type(kind.__name__, (LocalPaths, kind), {})
