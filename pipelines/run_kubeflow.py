"""Compiles the pipeline for Kubeflow: `tf-hqgnn pipeline compile --image IMAGE --data PATH --out PIPELINE.yaml`.

Nothing is uploaded or run. Exit codes: 0 written, 2 wrong usage or bad input (one line says what), 1 anything else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tf_hqgnn.cli import pipeline as commands
from tf_hqgnn.config import Config
from tf_hqgnn.types import InputError

from .kubeflow_steps import DEFAULT_STEPS, Step, read_steps
from .options import read_config, read_thresholds
from .progress import quieten_tfx

# Names of images: [host[:port]/]path[:tag][@digest].
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][\w.-]*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses as `tf-hqgnn pipeline compile` does, compiles, reports; returns the exit code."""
    return commands.main("compile", Path(__file__).parent, arguments)


def execute(options: argparse.Namespace) -> int:
    """Compiles what the options of `tf-hqgnn pipeline compile` ask for; returns 0.

    Raises:
      InputError: An option, a setting or a step is wrong.
    """
    options.steps = options.steps or str(DEFAULT_STEPS)
    out = _check_out(Path(options.out))
    _check_image(options.image, "--image")
    config = _check_paths(options, read_config(options))
    thresholds = read_thresholds(options)
    quieten_tfx()
    # Imported this late because it takes seconds, which a mistyped option shouldn't.
    from . import kubeflow_spec
    from .kubeflow_lint import lint

    parameters = kubeflow_spec.RunParameters(
        data_path=config.data.path or "",
        items_path=config.data.items_path or "",
        max_epochs=0,
        thresholds=thresholds,
        serving_dir=options.serving_dir,
        model_store=options.model_store,
    )
    platforms = get_args(kubeflow_spec.Platform) if options.platform == "both" else (options.platform,)
    for platform in platforms:
        pipeline = kubeflow_spec.make_pipeline(
            config, parameters, options.pipeline_root or "", options.keep, options.model_config_file
        )
        steps = read_steps(Path(options.steps), [component.id for component in pipeline.components])
        _check_steps(steps, platform, options)
        job = kubeflow_spec.compile_pipeline(pipeline, parameters, steps, options.image, platform)
        spec = job["pipelineSpec"]
        second = kubeflow_spec.kubernetes_document(spec, steps) if platform == "kfp" else None
        documents = [spec, *([second] if second else [])]
        problems = lint(documents) if platform == "kfp" else []
        if problems:
            raise InputError(f"open-source Kubeflow would refuse the pipeline: {'; '.join(problems)}")
        if platform == "kfp":
            kubeflow_spec.write_kfp(out, documents)
            print(f"open-source Kubeflow: {out}  ({len(steps)} steps, schema {spec['schemaVersion']})")
            if options.pipeline_root:
                print(_root_note(out, options.pipeline_root))
        else:
            path = out.with_suffix(".vertex.json")
            kubeflow_spec.write_vertex(path, job)
            print(f"Vertex: {path}")
    print("run-time parameters: " + ", ".join(parameters.values()))
    return 0


def _root_note(out: Path, root: str) -> str:
    return (
        f"Only Kubeflow's web form reads the pipeline root from {out.name}. Runs that are started by the SDK or the "
        "API use the installation's root unless they are given this one:\n"
        f'  kfp.Client("URL").create_run_from_pipeline_package("{out}", pipeline_root="{root}")'
    )


def _check_out(out: Path) -> Path:
    if out.suffix != ".yaml":
        raise InputError(f"--out {out}: expected a name that ends in .yaml, by which Kubeflow knows the format")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: expected a file in a folder that exists")
    return out


def _check_image(image: str, where: str) -> None:
    if not _IMAGE.fullmatch(image):
        raise InputError(f"{where} {image!r}: expected an image as HOST/NAME:TAG, for instance example/tf-hqgnn:1")


def _check_paths(options: argparse.Namespace, config: Config) -> Config:
    """The config with the paths of the options; all of them as the steps see them."""
    root = options.pipeline_root
    if root and not re.match(r"(gs|s3|minio)://[^/]", root):
        raise InputError(f"--pipeline-root {root}: expected gs://, s3:// or minio:// and a bucket")
    if options.platform != "kfp" and not (root or "").startswith("gs://"):
        raise InputError("--platform vertex needs --pipeline-root gs://BUCKET/FOLDER")
    data = config.data
    if options.data and data.train_path:
        raise InputError("--data and data.train_path both name a log; give one of them")
    about = {"items_path": options.items or data.items_path, "users_path": options.users or data.users_path}
    data = data.model_copy(update={"path": options.data or data.path, **about})
    if not (data.path or data.train_path):
        raise InputError("no log to read; give --data PATH, as the steps see it, or data.path in the config")
    paths = {name: getattr(data, name) for name in type(data).model_fields if name.endswith("path")}
    folders = {"--serving-dir": options.serving_dir, "--model-store": options.model_store}
    folders["--model-config-file"] = options.model_config_file
    for name, path in {**{f"data.{key}": path for key, path in paths.items()}, **folders}.items():
        if path and not all(one.startswith("/") for one in path.split(",")):
            raise InputError(
                f"{name} {path}: expected an absolute path, as the steps see it: on a mounted volume; steps open no "
                "object store"
            )
        if path and options.platform == "vertex" and not all(one.startswith("/gcs/") for one in path.split(",")):
            raise InputError(f"{name} {path}: no such volume on Vertex; expected a path under /gcs/, where buckets are")
    return config.model_copy(update={"data": data})


def _check_steps(steps: dict[str, Step], platform: str, options: argparse.Namespace) -> None:
    for name, step in steps.items():
        if step.image:
            _check_image(step.image, f"--steps {options.steps}: {name}.image")
        if platform == "vertex" and step.gpu and not step.vertex_gpu_type:
            raise InputError(
                f"--steps {options.steps}: {name} has gpu: {step.gpu} and no vertex_gpu_type; give one: NVIDIA_L4, .."
            )


if __name__ == "__main__":
    sys.exit(main())
