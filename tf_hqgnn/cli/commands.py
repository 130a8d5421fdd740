"""The command line, `tf-hqgnn`. Exit codes: 0 done, 2 wrong usage or bad input (one line), 1 anything else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tf_hqgnn import __version__
from tf_hqgnn.cli import pipeline
from tf_hqgnn.cli.ask_commands import explain, recommend, score, similar_users
from tf_hqgnn.cli.beam_options import BeamCommand, WithBeamOptions
from tf_hqgnn.cli.exit_codes import run_to_exit
from tf_hqgnn.cli.explore_command import explore
from tf_hqgnn.cli.export_commands import add_items, export
from tf_hqgnn.cli.forget_command import forget
from tf_hqgnn.cli.local_paths import with_local_paths
from tf_hqgnn.cli.model_commands import batch, serve
from tf_hqgnn.cli.run_commands import compare, evaluate, train, tune
from tf_hqgnn.cli.terminal import joined_paragraphs, replace_unprintable
from tf_hqgnn.logs import progress_on_stderr, quieten_libraries
from tf_hqgnn.startup import collect_seldom, settle_home

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a recommender on a log of who took what, test it on held-out data, and serve it by TF Serving.",
)

app.add_typer(pipeline.app, name="pipeline")


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Log to write, .csv or .parquet.")],
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 2000,
    items: Annotated[int, typer.Option(min=1, help="Number of items.")] = 1500,
    interactions: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 60000,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed writes the same log.")] = 2020,
    items_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV file to write titles and categories to.",
        ),
    ] = None,
) -> None:
    """Write a made-up log to try the other commands on: few items are popular, and few users are active."""
    from tf_hqgnn.data.synthetic import generate_log, write_log

    log = generate_log(users, items, interactions, seed)
    write_log(log, out, items_out)
    print(f"{interactions} interactions of {users} users with {items} items: {out}", file=sys.stderr)


app.command(cls=WithBeamOptions)(train)
app.command()(tune)
app.command()(evaluate)
app.command()(compare)
app.command()(export)
app.command("add-items")(add_items)
app.command()(forget)
app.command()(serve)
app.command()(explore)
app.command()(recommend)
app.command()(score)
app.command()(explain)
app.command("similar-users")(similar_users)
app.command(cls=BeamCommand)(batch)


for _command in (*app.registered_commands, *pipeline.app.registered_commands):
    _command.cls = with_local_paths(_command.cls)
    _command.help = joined_paragraphs(_command.callback.__doc__ or "")


def main() -> None:
    """Runs the command line; the console script's entry point."""
    settle_home()
    collect_seldom()
    quieten_libraries()
    replace_unprintable()
    with progress_on_stderr():
        run_to_exit(app)
