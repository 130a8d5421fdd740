"""The command that shows a model's recommendations on a page: `explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tf_hqgnn.extras import require


def explore(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT_DIR", help="Folder that `tf-hqgnn export` wrote.")],
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:8501",
            help="Ask this TF Serving over REST. By default the models of EXPORT_DIR are loaded and asked here.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all addresses of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 picks a free one.")] = 8600,
    versions: Annotated[
        int, typer.Option(min=1, help="How many of the newest versions of each model to load; not used with --server.")
    ] = 3,
    allowed_hosts: Annotated[
        str,
        typer.Option(
            metavar="NAME,..",
            help="Host names by which the page may be called. By default every name, but only loopback names on "
            "loopback.",
        ),
    ] = "",
) -> None:
    """Serve a page for the browser that shows recommendations and why they are made, until Ctrl-C.

    On the page you find users, put histories together, filter, exclude, and compare two models or versions. Users,
    histories and titles come from EXPORT_DIR. There is no login: whoever reaches the page sees them.

    A model is a program: explore only models that you trust.
    """
    require("serving", "explore")
    from tf_hqgnn.explore.server import explore

    explore(export_dir, server, host, port, versions, [name for name in allowed_hosts.split(",") if name])
