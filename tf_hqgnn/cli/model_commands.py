"""The commands that serve a model, or ask it for everybody: `serve` and `batch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.cli.output import print_batch, print_progress
from tf_hqgnn.cli.source_options import JsonOption
from tf_hqgnn.cli.terminal import printable
from tf_hqgnn.extras import require
from tf_hqgnn.files.failures import explain_failure


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


def batch(
    context: typer.Context,
    model: Annotated[str, typer.Option(metavar="SAVED_MODEL", help="A version, such as EXPORT_DIR/hqgnn/1.")],
    users: Annotated[
        str, typer.Option(metavar="FILE|all", help="Ids one a line, or .csv or .parquet with user_id; all the model's.")
    ],
    out: Annotated[str, typer.Option(metavar="FILE.parquet", help="Or .tfrecord; -00000-of-0000N is put into it.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items for each user.")] = 10,
    exclude: Annotated[Path | None, typer.Option(metavar="FILE", help="Items never to return, ids one a line.")] = None,
    candidates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Choose among these items only, ids one a line.")
    ] = None,
    allow_seen: Annotated[bool, typer.Option(help="Let candidates come back that a user has taken.")] = False,
    reject_unknown: Annotated[
        bool, typer.Option(help="No popular items for users that the model doesn't know: they go to the rejected.")
    ] = False,
    shards: Annotated[int | None, typer.Option(min=1, help="Output files; by default by the number of users.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Users in one call of the model.")] = None,
    tf_threads: Annotated[int | None, typer.Option(min=1, help="Of TensorFlow in a worker; all cores.")] = None,
    user_features: Annotated[
        str | None,
        typer.Option(metavar="FILE[,FILE]", help="Answer users that the model doesn't know by their features."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend to all users at once, on Apache Beam. Options not named here are Beam's, such as --runner.

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
    }
    try:
        report = batch(model, users, out, context.args, print_progress, **settings)
    except PipelineFailed as error:
        reason = explain_failure(error) or f"{error}; what is done is kept, and the same command goes on"
        print(f"tf-hqgnn: {printable(reason)}", file=sys.stderr)
        raise typer.Exit(1) from error
    print_batch(report, as_json)
