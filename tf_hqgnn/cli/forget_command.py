"""The command that removes users: `forget`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tf_hqgnn.cli.source_options import JsonOption
from tf_hqgnn.cli.terminal import printable, utf8


def forget(
    user: Annotated[list[str], typer.Option(metavar="ID", help="ID of a user to remove; repeatable.")],
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that `export` or a pipeline wrote; gets a new version without the users.",
        ),
    ] = None,
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="Model store of a pipeline.")] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN_DIR",
            help="Training run to rewrite without the users; repeatable.",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="Number of older versions to keep in --export; 0 removes all. By default all stay."),
    ] = None,
    model_config_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Model config file of a server, whose versions stay; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the ids, embeddings and histories of users from models, without training.

    Prints what it changed and what it can't reach. If it is interrupted, run it again: every folder is complete at any
    moment. It doesn't change the log: delete the users' rows there, so that the next training doesn't learn them again.
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
