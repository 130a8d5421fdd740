"""The command that removes users: `forget`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tf_hqgnn.cli.source_options import JsonOption
from tf_hqgnn.cli.terminal import printable, utf8


def forget(
    user: Annotated[list[str], typer.Option(metavar="ID", help="ID of a user to forget; repeatable.")],
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that `export` or a pipeline wrote; gets a new version.")
    ] = None,
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="A pipeline's model store.")] = None,
    run: Annotated[
        list[Path] | None, typer.Option(metavar="RUN_DIR", help="A run of `train`; repeatable. It is written anew.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="How many older versions stay in --export; 0 removes them all. By default all stay."),
    ] = None,
    model_config_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Of a server; versions that it loads or labels stay. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove users' ids, embeddings and histories without training, and list what can't be reached.

    Each folder is whole at any moment; if the command is interrupted, give it again. The log isn't touched: delete the
    users' rows there, and the next training starts from the rest.
    """
    from tf_hqgnn.forget.forget import forget

    users = [utf8(one) for one in user]
    record = forget(users, export, store, run or (), keep, model_config_file or ())
    if as_json:
        print(json.dumps(vars(record)))
        return
    for line in record.touched or ["nothing: none of the folders knows these users"]:
        print(printable(f"touched: {line}"))
    for line in record.not_reached:
        print(printable(f"not reached: {line}"))
