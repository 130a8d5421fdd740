"""The command line, `tf-hqgnn`. Exit codes: 0 done, 2 wrong usage or bad input (one line), 1 anything else."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tf_hqgnn import __version__
from tf_hqgnn.cli import pipeline
from tf_hqgnn.cli.ask_commands import explain, recommend, score, similar_users
from tf_hqgnn.cli.beam_options import BeamCommand, WithBeamOptions, print_plan, train_by_runner
from tf_hqgnn.cli.exit_codes import run_to_exit
from tf_hqgnn.cli.explore_command import explore
from tf_hqgnn.cli.forget_command import forget
from tf_hqgnn.cli.local_paths import with_local_paths
from tf_hqgnn.cli.model_commands import batch, serve
from tf_hqgnn.cli.run_output import print_comparison, print_evaluation, print_read, print_trained, print_tuned
from tf_hqgnn.cli.source_options import JsonOption
from tf_hqgnn.cli.terminal import joined_paragraphs, replace_unprintable
from tf_hqgnn.logs import progress_on_stderr, quieten_libraries, start_xla
from tf_hqgnn.startup import collect_seldom, settle_home
from tf_hqgnn.types import InputError

if TYPE_CHECKING:
    from tf_hqgnn.training.train import TrainResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a recommender on a log of who took what, test it on held-out data, and serve it by TF Serving.",
)

app.add_typer(pipeline.app, name="pipeline")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run of `tf-hqgnn train`.")]
ConfigArgument = Annotated[
    str, typer.Argument(metavar="[PRESET|CONFIG.yaml]", help="Name of a preset, such as auto, or a file of settings.")
]


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


@app.command(cls=WithBeamOptions)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="RUN_DIR", help="Run directory to make; it must not exist.")],
    config: ConfigArgument = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds that choosing settings and training may take together (the setting auto.seconds)."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Runner of Apache Beam, such as FlinkRunner, for logs beyond one machine's memory. Other options are "
            "then passed to Beam.",
        ),
    ] = None,
    recommendations: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --runner: folder to write the best items of all users to, as Parquet.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print how many machines, hours and bytes a training by --runner will take, and train nothing.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a log and write it to a run directory.

    Prints validation metrics as a table on a terminal, and as one JSON object otherwise. To train on several machines
    (training.strategy=multi_worker), start the same command on each of them, with --resume from the first start on, so
    that a worker that is started again continues. Only worker 0, the chief, writes RUN_DIR.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.config.presets import find_config

    budget = () if seconds is None else (f"auto.seconds={seconds}",)
    settings = Config.load(find_config(config), (*(overrides or ()), *budget))
    if budget and not settings.auto.race:
        raise InputError(
            f"--seconds limits the race that chooses settings, and {config} has none; leave it out, or train auto"
        )
    if plan:
        print_plan(settings)
        return
    if runner is not None:
        _print_result(
            train_by_runner(settings, out, [f"--runner={runner}", *context.args], resume, recommendations), as_json
        )
        return
    if recommendations is not None:
        raise InputError("--recommendations goes with --runner; without it, export the run and give it to batch")
    from tf_hqgnn.data.loading import load_dataset
    from tf_hqgnn.report.page import report_hook
    from tf_hqgnn.training.distribution import from_chief, is_chief, make_strategy, watch_workers
    from tf_hqgnn.training.run_folder import check_out
    from tf_hqgnn.training.train import train

    strategy = make_strategy(settings.training.strategy)
    with watch_workers(strategy):
        from_chief(strategy, lambda: check_out(out, resume))
    dataset = load_dataset(settings.data, settings.seed)
    print_read(dataset.report)
    sizes = [len(part) for part in (dataset.train, dataset.valid, dataset.test)]
    print(
        f"{dataset.num_users} users, {dataset.num_items} items; interactions: "
        f"{sizes[0]} train, {sizes[1]} valid, {sizes[2]} test",
        file=sys.stderr,
    )
    start_xla()
    result = train(dataset, settings, out, resume, (report_hook,), strategy=strategy)
    if is_chief(strategy):
        _print_result(result, as_json)


@app.command()
def tune(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the study; gets best.yaml and report.html.")],
    config: ConfigArgument = "default",
    trials: Annotated[int, typer.Option(min=1, help="Number of trainings, failed and earlier ones included.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings that run at once, each in a process of its own.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted study, or one that gets more trials.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for better settings by training many times; the best ones are written to best.yaml.

    Trials are compared by evaluation.monitor (NDCG@20) on the validation split, with float32 embeddings. The first
    trial has the settings as they are given. The propagation needs no trials, since every training ends with a search
    over it.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.config.presets import find_config

    settings = Config.load(find_config(config), tuple(overrides or ()))
    from tf_hqgnn.tuning.search import check_tune, tune

    check_tune(settings, out, resume)
    from tf_hqgnn.data.loading import load_dataset

    dataset = load_dataset(settings.data, settings.seed)
    print_read(dataset.report)
    start_xla()
    result = tune(dataset, settings, out, trials, jobs, resume, shlex.join(["tf-hqgnn", *sys.argv[1:]]))
    from tf_hqgnn.report.study import study_hook

    study_hook(result, settings)
    print_tuned(settings, result, as_json)


@app.command()
def evaluate(
    run_dir: RunArgument,
    split: Annotated[str, typer.Option(metavar="valid|test", help="Split to evaluate on.")] = "test",
    k: Annotated[
        str, typer.Option(metavar="K,K,...", help="Cut-offs of the metrics, such as the 20 of NDCG@20.")
    ] = "10,20,50",
    as_json: JsonOption = False,
) -> None:
    """Measure a run on held-out data: rank all items for every user, and compare with recommending popular items."""
    if split not in ("valid", "test"):
        raise InputError(f"--split {split}: expected valid or test")
    from tf_hqgnn.runs.run_directory import RunDirectory

    ks = _cut_offs(k)
    run = RunDirectory.load(run_dir)
    found = run.evaluate(split, ks)
    print_evaluation(split, found, run.coded, as_json)
    if run.metrics.get("refit"):
        print(run.metrics["refit"]["note"], file=sys.stderr)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run of `tf-hqgnn train`.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Another finished run.")],
    as_json: JsonOption = False,
) -> None:
    """Show two runs side by side: settings that differ, validation metrics, seconds and bytes."""
    from tf_hqgnn.report.comparison import compare_runs
    from tf_hqgnn.runs.run_directory import RunDirectory

    print_comparison(compare_runs(RunDirectory.load(first), RunDirectory.load(second)), as_json)


@app.command()
def export(
    run_dir: RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            metavar="EXPORT_DIR",
            help="Folder to write the models hqgnn and hqgnn_scann to.",
        ),
    ],
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of the version; by default the next free one.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of models to cut hqgnn into, each with all users and a part of the items, for servers that "
            "can't hold all items. `recommend` asks all of them.",
        ),
    ] = None,
) -> None:
    """Export a run as SavedModels for TF Serving: hqgnn searches exactly, hqgnn_scann by an index."""
    from tf_hqgnn.export.layout import MODEL_NAMES, read_metadata, version_path
    from tf_hqgnn.export.of_runs import bundle_of, export_run
    from tf_hqgnn.runs.run_directory import RunDirectory

    run = RunDirectory.load(run_dir)
    if shards is not None:
        from tf_hqgnn.export.shard_manifest import manifest_path
        from tf_hqgnn.export.sharded import export_shards

        manifest = export_shards(lambda: bundle_of(run), out, run.config.export, shards, version)
        first, last = manifest.shards[0].name, manifest.shards[-1].name
        print(
            f"version {manifest.version} in {out}: {manifest.num_items:,} items in {first} to {last} (exact), listed "
            f"in {manifest_path(out, manifest.version).name}"
        )
        return
    number = export_run(run, out, version)
    kinds = {name: read_metadata(version_path(out, name, number))["exact"] for name in MODEL_NAMES}
    models = ", ".join(f"{name} ({'exact' if exact else 'approximate'})" for name, exact in kinds.items())
    print(f"version {number} in {out}: {models}")


@app.command("add-items")
def add_items(
    export: Annotated[
        Path,
        typer.Option(
            metavar="EXPORT_DIR",
            help="Folder that `export` wrote; gets the new version.",
        ),
    ],
    interactions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log with the first interactions of the new items.")
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,FILE]",
            help="File of items with their categories, availability and features. Features can replace interactions. "
            "Known items are withdrawn, or return, by its column available.",
        ),
    ] = None,
) -> None:
    """Add new items to an exported model without training, withdraw others, and write it as a new version.

    Rows of known users and items stay as they are, and so do the partitions of a ScaNN index, which makes this a matter
    of seconds. A model is a program: add items only to a model that you trust.
    """
    if interactions is None and items is None:
        raise InputError(
            "nothing to add: pass --interactions FILE, or --items FILE with features or availability, or both"
        )
    from tf_hqgnn.export.new_items import add_items

    added = add_items(export, interactions, items)
    print(
        f"version {added.version} in {export}: {added.num_added:,} items added ({added.num_by_features:,} by features "
        f"alone), {added.num_updated:,} known ones updated, {added.num_withdrawn:,} withdrawn, {added.num_returned:,} "
        f"returned; {added.num_skipped:,} new items skipped (no interaction of a known user, nor a known feature), "
        f"{added.num_unknown_users:,} unknown users ignored"
    )


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


def _print_result(result: TrainResult, as_json: bool) -> None:
    print_trained(result, as_json)
    if result.warning is not None:
        print(f"tf-hqgnn: {result.warning}", file=sys.stderr)


def _cut_offs(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"--k {text}: expected whole numbers separated by commas, such as 10,20,50") from error
    if ks[0] < 1:
        raise InputError(f"--k {text}: every cut-off must be at least 1")
    return ks


def main() -> None:
    """Runs the command line; the console script's entry point."""
    settle_home()
    collect_seldom()
    quieten_libraries()
    replace_unprintable()
    with progress_on_stderr():
        run_to_exit(app)
