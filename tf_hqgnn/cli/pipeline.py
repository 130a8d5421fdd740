"""`tf-hqgnn pipeline new | run | compile`: the only place where the options of the pipeline's runners are parsed.

The runners are the user's, in a folder that `new` writes; `pipeline_folder` finds and imports it.
"""

from __future__ import annotations

import inspect
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tf_hqgnn.cli.beam_options import WithBeamOptions
from tf_hqgnn.cli.local_paths import with_local_paths
from tf_hqgnn.cli.pipeline_folder import find_folder, import_runner, write_folder
from tf_hqgnn.cli.terminal import replace_unprintable
from tf_hqgnn.extras import require
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError

app = typer.Typer(
    no_args_is_help=True,
    help="Retrain every day by a TFX pipeline, here or on Kubeflow; a new model is served only if it is good.",
)

# typer brings a copy of click in some releases, and needs click itself in others.
_UsageError: Any = typer.BadParameter.__base__


class Platform(str, Enum):
    """A platform that a pipeline can be compiled for."""

    KFP = "kfp"
    VERTEX = "vertex"
    BOTH = "both"


Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Folder of the pipeline, made by `new`. By default this folder, or pipelines/ in it.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|CONFIG.yaml",
        help="Preset or file of settings; by default auto.",
    ),
]
Keep = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Remove all but the N newest versions after a push; 0 keeps all versions.",
    ),
]
ModelConfigFile = Annotated[
    str | None,
    typer.Option(
        "--model-config-file",
        metavar="FILE",
        help="Model config file of the servers; --keep never removes a version that it loads or labels.",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
]


def _with_thresholds(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for every threshold, in `thresholds`."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    fields = {
        name: Annotated[int if field.annotation is int else float, typer.Option(help=field.description)]
        for name, field in Thresholds.model_fields.items()
    }

    def wrapper(**values: Any) -> None:
        command(**{name: value for name, value in values.items() if name not in fields}, thresholds=values)

    wrapper.__annotations__ = {name: hint for name, hint in hints.items() if name != "thresholds"} | fields
    defaults = {name: parameter.default for name, parameter in signature.parameters.items() if name != "thresholds"}
    defaults |= {name: Thresholds.model_fields[name].default for name in fields}
    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=wrapper.__annotations__[name]
            )
            for name, default in defaults.items()
        ]
    )
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


@app.command()
def new(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder to make. Its name must be one that Python can import, such as my_shop.",
        ),
    ],
) -> None:
    """Write the pipeline into a new folder, where you can edit its steps and how they are run."""
    write_folder(folder)
    print(
        f"{folder}: pipeline.py is the composition, steps.yaml what each step gets on Kubeflow; edit both as you like"
    )
    print(f"run it here:  tf-hqgnn pipeline run --dir {folder} --data log.csv --out DIR")
    print(f"its image:    docker build -t HOST/{folder.name}:1 {folder}")


@app.command(cls=WithBeamOptions)
@_with_thresholds
def run(
    context: typer.Context,
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder for everything that the pipeline writes; serving/ in it is what to serve.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Log of interactions; {SPAN} in it stands for the number of a day. By default data.path.",
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,FILE]",
            help="File of items: item_id and any of title, category, available and features. Files are joined by id.",
        ),
    ] = None,
    users: Annotated[
        str | None, typer.Option(metavar="FILE[,FILE]", help="File of users: user_id and features.")
    ] = None,
    folder: Folder = None,
    config: Config = None,
    overrides: Overrides = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File with a schema of TensorFlow Data Validation, in text format, that the log must match.",
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Run every step, even if its result is there from an earlier run.",
        ),
    ] = False,
    keep: Keep = 0,
    model_config_file: ModelConfigFile = None,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Runner of Apache Beam, such as FlinkRunner, for the steps that are Beam jobs: reading, statistics, "
            "vocabularies. Other options are then passed to Beam.",
        ),
    ] = None,
    *,
    thresholds: dict[str, float],
) -> None:
    """Run the pipeline on this machine: read and check the log, train, and release both models if they are good."""
    options = Namespace(out=out, data=data, items=items, users=users, config=config, schema=schema, no_cache=no_cache)
    options.keep, options.model_config_file = keep, model_config_file or ""
    options.beam_flags = [*([] if runner is None else [f"--runner={runner}"]), *context.args]
    _call(folder, "run_local", options, overrides, thresholds)


@app.command("compile")
@_with_thresholds
def compile_(
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Container image that the steps run in.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="PIPELINE.yaml",
            help="File to write; for Vertex AI, PIPELINE.vertex.json beside it.",
        ),
    ],
    platform: Annotated[Platform, typer.Option(help="Kubeflow Pipelines, Vertex AI, or both.")] = Platform.KFP,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Path of the log inside the steps' containers; a run can give another as its parameter data_path.",
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            metavar="PATH[,PATH]",
            help="Path of the file of items inside the containers; a run can give another as its parameter items_path.",
        ),
    ] = None,
    users: Annotated[
        str | None, typer.Option(metavar="PATH[,PATH]", help="Path of the file of users inside the containers.")
    ] = None,
    serving_dir: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Folder inside the containers from which servers load models.",
        ),
    ] = "/mnt/models",
    model_store: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Folder inside the containers in which the last accepted model is kept for the next run.",
        ),
    ] = "/mnt/store",
    pipeline_root: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Where artifacts go: gs://, s3:// or minio://BUCKET/..; by default where the installation puts them. "
            "Kubeflow reads it from the file only in its web form; give it again to a run that is started otherwise.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS.yaml",
            help="File with CPU, memory and volumes of each step; by default steps.yaml in the pipeline's folder.",
        ),
    ] = None,
    folder: Folder = None,
    config: Config = None,
    overrides: Overrides = None,
    keep: Keep = 0,
    model_config_file: ModelConfigFile = None,
    *,
    thresholds: dict[str, float],
) -> None:
    """Compile the pipeline for Kubeflow Pipelines or Vertex AI, without uploading or running it."""
    options = Namespace(
        image=image,
        out=out,
        platform=platform.value,
        data=data,
        items=items,
        users=users,
        serving_dir=serving_dir,
        model_store=model_store,
        pipeline_root=pipeline_root,
        steps=steps,
        config=config,
        keep=keep,
        model_config_file=model_config_file or "",
    )
    _call(folder, "run_kubeflow", options, overrides, thresholds)


for _command in app.registered_commands:
    _command.cls = with_local_paths(_command.cls)


def _call(
    folder: Path | None, runner: str, options: Namespace, overrides: list[str] | None, thresholds: dict[str, float]
) -> None:
    options.overrides = list(overrides or ())
    vars(options).update({name: thresholds[name] for name in Thresholds.model_fields})
    require("tfx", "the pipeline")
    code = import_runner(find_folder(folder), runner).execute(options)
    if code:
        raise typer.Exit(code)


def main(command: str, folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Runs a command for `python -m FOLDER.RUNNER`; returns its exit code, a mistake told in one line.

    Args:
      command: `run` or `compile`.
      folder: of the runner.
      arguments: the command's; those of the process if None.
    """
    replace_unprintable()
    words = [command, "--dir", str(folder), *(sys.argv[1:] if arguments is None else arguments)]
    try:
        return typer.main.get_command(app).main(words, prog_name="tf-hqgnn pipeline", standalone_mode=False) or 0
    except InputError as error:
        message = str(error)
    except _UsageError as error:
        message = f"{re.sub(r'[.]$', '', error.format_message())}; --help lists the options"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
