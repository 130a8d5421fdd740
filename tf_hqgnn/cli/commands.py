"""The command line, `tf-hqgnn`. Exit codes: 0 done, 2 wrong usage or bad input (one line), 1 anything else."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tf_hqgnn import __version__
from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.cli import pipeline
from tf_hqgnn.cli.exit_codes import run_to_exit
from tf_hqgnn.cli.output import print_answer, print_batch, print_evaluation, print_read, print_tuned
from tf_hqgnn.cli.terminal import printable, replace_unprintable, utf8
from tf_hqgnn.extras import require
from tf_hqgnn.failures import explain_failure
from tf_hqgnn.logs import progress_on_stderr, quieten_libraries, start_xla
from tf_hqgnn.startup import settle_home
from tf_hqgnn.types import InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Graph recommendations: trained in minutes, served from a few bits per item.",
)

app.add_typer(pipeline.app, name="pipeline")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run of `tf-hqgnn train`.")]
ConfigArgument = Annotated[
    str, typer.Argument(metavar="[PRESET|CONFIG.yaml]", help="A preset's name, such as default, or a file of settings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The log to write, .csv or .parquet.")],
    users: Annotated[int, typer.Option(min=1)] = 2000,
    items: Annotated[int, typer.Option(min=1)] = 1500,
    interactions: Annotated[int, typer.Option(min=1)] = 60000,
    seed: Annotated[int, typer.Option(min=0)] = 2020,
    items_out: Annotated[Path | None, typer.Option(help="Where titles and categories go, .csv.")] = None,
) -> None:
    """Write a realistic log: communities of taste, Zipf popularity, a long tail of user activity."""
    from tf_hqgnn.data.synthetic import generate_log, write_log

    log = generate_log(users, items, interactions, seed)
    write_log(log, out, items_out)
    print(f"{interactions} interactions of {users} users with {items} items: {out}", file=sys.stderr)


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="RUN_DIR", help="The run directory to make.")],
    config: ConfigArgument = "default",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
) -> None:
    """Train and write a run directory.

    On several machines (training.strategy multi_worker): the same command on each of them, with --resume from the first
    start on, so that a worker that is started again goes on; only the chief writes RUN_DIR.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.config.presets import find_config

    settings = Config.load(find_config(config), tuple(overrides or ()))
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
        print(json.dumps(vars(result) | {"run_dir": str(result.run_dir)}))


@app.command()
def tune(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The study's directory; best.yaml will be there.")],
    config: ConfigArgument = "default",
    trials: Annotated[int, typer.Option(min=1, help="Trainings, all together.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once, each a process.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted study, or to more trials.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search settings by NDCG@20 on the validation split.

    Of full-precision rows. The first trial is CONFIG.yaml as it is. No trial has to be spent on propagation.solver,
    t1 or num_steps: every training ends with a free search over them.
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
    print_tuned(settings, result, as_json)


@app.command()
def evaluate(
    run_dir: RunArgument,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    k: Annotated[str, typer.Option(metavar="K,K,...", help="Cut-offs.")] = "10,20,50",
    as_json: JsonOption = False,
) -> None:
    """Rank the full catalogue for every user of a split and print the metrics, beside popularity's."""
    if split not in ("valid", "test"):
        raise InputError(f"--split {split}: expected valid or test")
    from tf_hqgnn.runs.run_directory import RunDirectory

    ks = _cut_offs(k)
    run = RunDirectory.load(run_dir)
    found = run.evaluate(split, ks)
    print_evaluation(split, found, run.coded, as_json)


@app.command()
def export(
    run_dir: RunArgument,
    out: Annotated[Path, typer.Option(metavar="EXPORT_DIR", help="Folder that gets hqgnn/ and hqgnn_scann/.")],
    version: Annotated[int | None, typer.Option(min=1, help="By default the next free one.")] = None,
) -> None:
    """Write both SavedModels, with warm-up records, as a new version."""
    from tf_hqgnn.export.bundle import export_run
    from tf_hqgnn.export.layout import MODEL_NAMES, read_metadata, version_path
    from tf_hqgnn.runs.run_directory import RunDirectory

    number = export_run(RunDirectory.load(run_dir), out, version)
    kinds = {name: read_metadata(version_path(out, name, number))["exact"] for name in MODEL_NAMES}
    models = ", ".join(f"{name} ({'exact' if exact else 'approximate'})" for name, exact in kinds.items())
    print(f"version {number} in {out}: {models}")


@app.command("add-items")
def add_items(
    export: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `export` wrote.")],
    interactions: Annotated[Path, typer.Option(metavar="FILE", help="A log with the first interactions of new items.")],
    items: Annotated[Path | None, typer.Option(metavar="ITEMS.csv", help="Their categories and availability.")] = None,
) -> None:
    """Add new items to an exported model without training, as a new version.

    A model is a program: add items only to one that you trust.
    """
    from tf_hqgnn.export.new_items import add_items

    added = add_items(export, interactions, items)
    print(
        f"version {added.version} in {export}: {added.num_added:,} items added, {added.num_updated:,} known ones "
        f"updated; {added.num_skipped:,} new items skipped (no interaction of a known user), "
        f"{added.num_unknown_users:,} unknown users ignored"
    )


@app.command()
def serve(
    export_dir: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT_DIR]", help="Folder with one folder per model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of gRPC; 0 opens none.")] = 8500,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of REST; 0 opens none.")] = 8501,
    model_config_file: Annotated[
        Path | None, typer.Option("--model_config_file", help="TF Serving's ModelServerConfig, in place of EXPORT_DIR.")
    ] = None,
    batching_parameters_file: Annotated[
        Path | None, typer.Option("--batching_parameters_file", help="TF Serving's BatchingParameters.")
    ] = None,
    monitoring_config_file: Annotated[
        Path | None, typer.Option("--monitoring_config_file", help="TF Serving's MonitoringConfig.")
    ] = None,
    ssl_config_file: Annotated[
        Path | None, typer.Option("--ssl_config_file", help="TF Serving's SSLConfig: TLS for gRPC.")
    ] = None,
    allow_reload: Annotated[
        bool | None,
        typer.Option(help="Let clients change which models are served; by default only with --model_config_file."),
    ] = None,
    plain_rest: Annotated[
        bool, typer.Option("--plain-rest", help="Open REST, which has no TLS, even if gRPC asks for certificates.")
    ] = False,
    allowed_hosts: Annotated[
        str,
        typer.Option(
            metavar="NAME,..",
            help="Host names by which REST may be called. By default every name, but only loopback names on loopback.",
        ),
    ] = "",
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds that requests under way may take after SIGTERM or Ctrl-C.")
    ] = 8.0,
) -> None:
    """Serve models over TF Serving's gRPC and REST until Ctrl-C. Files are as TF Serving's of the same option.

    A model is a program: serve only models that you trust.
    """
    require("serving", "serve")
    from tf_hqgnn.serving.server import serve

    serve(
        export_dir,
        host=host,
        # As in TF Serving, port 0 is off; Python's callers get a free port for it.
        grpc_port=grpc_port or None,
        rest_port=rest_port or None,
        model_config_file=model_config_file,
        batching_parameters_file=batching_parameters_file,
        monitoring_config_file=monitoring_config_file,
        ssl_config_file=ssl_config_file,
        may_reload=allow_reload,
        plain_rest=plain_rest,
        allowed_hosts=[name for name in allowed_hosts.split(",") if name],
        grace_seconds=grace_seconds,
    )


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(metavar="ID", help="Whom for.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Ask a running server (gRPC).")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="SAVED_MODEL", help="Or load a version, such as EXPORT_DIR/hqgnn/1.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Never this item; repeatable.")] = None,
    category: Annotated[str, typer.Option(metavar="NAME", help="Items of this category only.")] = "",
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Instead of --user: an item that was taken; repeatable.")
    ] = None,
    items: Annotated[Path | None, typer.Option(metavar="ITEMS.csv", help="For titles.")] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Call --server over TLS, and trust this authority.")
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificate to show to --server (mutual TLS).")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(metavar="PEM", help="Private key of --cert-file.")] = None,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name in the server's certificate, if not that of the address.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend items to a user.

    A model is a program: load only one that you trust.
    """
    if (server is None) == (model is None):
        raise InputError("say whom to ask: either --server HOST:PORT or --model SAVED_MODEL")
    if (user is None) == (not history):
        raise InputError("say whom for: either --user ID or --history ID, once for each item that was taken")
    from tf_hqgnn.serving.client import Client, ClientTls, LocalModel

    user, history = None if user is None else utf8(user), [utf8(one) for one in history or ()]
    excluded, category = tuple(utf8(one) for one in exclude or ()), utf8(category)
    tls = None
    if ca_file is not None or cert_file is not None or key_file is not None or server_name is not None:
        tls = ClientTls(ca_file, cert_file, key_file, server_name)
    with Client(server, tls=tls) if server is not None else LocalModel(Path(str(model))) as source:
        if user is None:
            (answer,) = source.recommend_for_history([history or []], k=k, exclude=excluded, category=category)
        else:
            (answer,) = source.recommend([user], k=k, exclude=excluded, category=category)
    print_answer(answer, user, len(history or ()), _titles(items), as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def batch(
    context: typer.Context,
    model: Annotated[str, typer.Option(metavar="SAVED_MODEL", help="A version, such as EXPORT_DIR/hqgnn/1.")],
    users: Annotated[
        str, typer.Option(metavar="FILE|all", help="Ids one a line, or .csv or .parquet with user_id; all the model's.")
    ],
    out: Annotated[str, typer.Option(metavar="FILE.parquet", help="Or .tfrecord; -00000-of-0000N is put into it.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items for each user.")] = 10,
    exclude: Annotated[Path | None, typer.Option(metavar="FILE", help="Items never to return, ids one a line.")] = None,
    reject_unknown: Annotated[
        bool, typer.Option(help="No popular items for users that the model doesn't know: they go to the rejected.")
    ] = False,
    shards: Annotated[int | None, typer.Option(min=1, help="Output files; by default by the number of users.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Users in one call of the model.")] = None,
    tf_threads: Annotated[int | None, typer.Option(min=1, help="Of TensorFlow in a worker; all cores.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend to all users at once, on Apache Beam. Options not named here are Beam's, such as --runner.

    A model is a program: load only one that you trust.
    """
    require("beam", "batch")
    quieten_beam()
    from tf_hqgnn.beam.batch import batch, say_on_stderr
    from tf_hqgnn.beam.plan import read_ids
    from tf_hqgnn.beam.running import PipelineFailed

    settings: dict[str, Any] = {"k": k, "num_shards": shards, "reject_unknown": reject_unknown}
    settings |= {
        "batch_size": batch_size,
        "tf_threads": tf_threads,
        "exclude": () if exclude is None else read_ids(exclude),
    }
    try:
        report = batch(model, users, out, context.args, say_on_stderr, **settings)
    except PipelineFailed as error:
        reason = explain_failure(error) or f"{error}; what is done is kept, and the same command goes on"
        print(f"tf-hqgnn: {printable(reason)}", file=sys.stderr)
        raise typer.Exit(1) from error
    print_batch(report, as_json)


def _cut_offs(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"--k {text}: expected whole numbers separated by commas, such as 10,20,50") from error
    if ks[0] < 1:
        raise InputError(f"--k {text}: every cut-off must be at least 1")
    return ks


def _titles(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    from tf_hqgnn.data.items import read_items

    catalogue = read_items(path)
    return {} if catalogue.title is None else dict(zip(catalogue.item_ids, catalogue.title))


def main() -> None:
    """Runs the command line; the console script's entry point."""
    settle_home()
    quieten_libraries()
    replace_unprintable()
    with progress_on_stderr():
        run_to_exit(app)
