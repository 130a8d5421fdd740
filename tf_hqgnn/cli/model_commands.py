"""The commands that serve a model, or ask it for everybody: `serve` and `batch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.cli.output import print_batch, print_progress
from tf_hqgnn.cli.source_options import JsonOption
from tf_hqgnn.cli.terminal import printable, utf8
from tf_hqgnn.extras import require
from tf_hqgnn.files.failures import explain_failure


def serve(
    export_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPORT_DIR]", help="Folder that `tf-hqgnn export` wrote, with a folder for each model."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all addresses.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port for gRPC; 0 for none.")] = 8500,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="Port for REST; 0 for none.")] = 8501,
    model_config_file: Annotated[
        Path | None,
        typer.Option(
            "--model_config_file",
            help="File that names models, in place of EXPORT_DIR (ModelServerConfig).",
        ),
    ] = None,
    batching_parameters_file: Annotated[
        Path | None,
        typer.Option(
            "--batching_parameters_file",
            help="File that sets how requests are batched (BatchingParameters).",
        ),
    ] = None,
    monitoring_config_file: Annotated[
        Path | None,
        typer.Option(
            "--monitoring_config_file",
            help="File that opens Prometheus metrics (MonitoringConfig).",
        ),
    ] = None,
    ssl_config_file: Annotated[
        Path | None, typer.Option("--ssl_config_file", help="File with the certificates of gRPC's TLS (SSLConfig).")
    ] = None,
    allow_reload: Annotated[
        bool | None,
        typer.Option(help="Let clients change which models are served. By default only with --model_config_file."),
    ] = None,
    plain_rest: Annotated[
        bool,
        typer.Option(
            "--plain-rest",
            help="Open REST, which has no TLS, even where gRPC asks clients for certificates.",
        ),
    ] = False,
    allowed_hosts: Annotated[
        str,
        typer.Option(
            metavar="NAME,..",
            help="Host names by which REST may be called. By default any, and on a loopback address loopback names "
            "only.",
        ),
    ] = "",
    allowed_origins: Annotated[
        str,
        typer.Option(
            metavar="ORIGIN,..",
            help="Web pages that may call REST, such as https://shop.example; * for all. By default none may.",
        ),
    ] = "",
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds that running requests may take after SIGTERM or Ctrl-C.")
    ] = 8.0,
) -> None:
    """Serve exported models over TF Serving's gRPC and REST protocols, until Ctrl-C.

    All config files have TF Serving's formats.

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
        allowed_origins=[origin for origin in allowed_origins.split(",") if origin],
        grace_seconds=grace_seconds,
    )


def batch(
    context: typer.Context,
    model: Annotated[str, typer.Option(metavar="SAVED_MODEL", help="Version of a model, such as EXPORT_DIR/hqgnn/1.")],
    users: Annotated[
        str,
        typer.Option(
            metavar="FILE|all",
            help="File with one ID per line, or .csv or .parquet with user_id; all for all users of the model.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE.parquet",
            help="Output, .parquet or .tfrecord; -00000-of-0000N is inserted before the suffix.",
        ),
    ],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of items for each user.")] = 10,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of items not to recommend, one ID per line.",
        ),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of candidates, one ID per line: only these are recommended."),
    ] = None,
    allow_seen: Annotated[bool, typer.Option(help="Recommend items again that a user has taken.")] = False,
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Recommend only items of this category; repeat it to allow several."),
    ] = None,
    exclude_category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Recommend no item of this category; repeatable.")
    ] = None,
    diversity: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How far to move items up that differ from those above them, from 0 (not at all) to 1."
        ),
    ] = 0.0,
    popularity: Annotated[
        float,
        typer.Option(
            help="Add this number times log(item's share of all interactions) to scores; below 0 favours rare items."
        ),
    ] = 0.0,
    histories: Annotated[
        str | None,
        typer.Option(
            metavar="LOG", help="Log of what users have taken since the training; it is added to their histories."
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="LOG",
            help="Log of pairs, with user_id and item_id; write the score of each pair instead of recommendations.",
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="LOG",
            help="Log of pairs, with user_id and item_id; write which k items of the user's history add most to the "
            "score of each pair.",
        ),
    ] = None,
    similar_users: Annotated[
        bool, typer.Option("--similar-users", help="Write the k most similar users instead of recommendations.")
    ] = False,
    reject_unknown: Annotated[
        bool, typer.Option(help="Reject unknown users instead of giving them popular items.")
    ] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of output files; by default it depends on the number of users.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Users in one call of the model; by default as many as fit.",
        ),
    ] = None,
    tf_threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of TensorFlow in a worker; by default one for each core.",
        ),
    ] = None,
    user_features: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,FILE]",
            help="File of users with features; users whom the model doesn't know get recommendations by these.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend to many users at once with Apache Beam. Other options are passed to Beam, such as --runner.

    A model is a program: load only one that you trust.
    """
    require("beam", "batch")
    quieten_beam()
    from tf_hqgnn.beam.batch import batch
    from tf_hqgnn.beam.plan import read_ids
    from tf_hqgnn.beam.running import PipelineFailed

    settings: dict[str, Any] = {"k": k, "num_shards": shards, "reject_unknown": reject_unknown}
    settings |= {
        "batch_size": batch_size,
        "tf_threads": tf_threads,
        "exclude": () if exclude is None else read_ids(exclude),
        "user_features": user_features,
        "candidates": () if candidates is None else read_ids(candidates, "--candidates"),
        "allow_seen": allow_seen,
        "category": [utf8(one) for one in category or ()],
        "exclude_category": [utf8(one) for one in exclude_category or ()],
        "diversity": diversity,
        "popularity": popularity,
        "histories": histories,
        "score": score,
        "explain": explain,
        "similar_users": similar_users,
    }
    try:
        report = batch(model, users, out, context.args, print_progress, **settings)
    except PipelineFailed as error:
        reason = explain_failure(error) or f"{error}; what is done is kept, and the same command goes on"
        print(f"tf-hqgnn: {printable(reason)}", file=sys.stderr)
        raise typer.Exit(1) from error
    print_batch(report, as_json)
