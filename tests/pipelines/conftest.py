"""One log, with ids that a careless step would change, and one real pipeline run for all tests of this folder."""

import csv
import io
import tempfile
from contextlib import redirect_stdout
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kubeflow_harness import ContainerPython

from pipelines import run_local
from pipelines.run_record import RunRecord
from tf_hqgnn.data.synthetic import generate_log
from tf_hqgnn.export.warmup import replay_warmup

SETTINGS = """
seed: 3
data: {k_core: 2, min_rating: 2}
model: {embedding_dim: 16}
training:
  {batch_size: 256, learning_rate: 0.01, max_epochs: 4, patience: 4, steps_per_execution: 4, jit_compile: false,
   warm_start: null}
quantization: {bits: 4, distillation: {max_epochs: 2}}
evaluation: {k: [5, 20]}
export: {default_k: 5}
"""


@pytest.fixture(scope="session")
def odd_log(tmp_path_factory):
    """`data` (Parquet), `items` (CSV) and `config` of a log whose ids hold line breaks, commas, zeros, any script."""
    folder = tmp_path_factory.mktemp("odd")
    log = generate_log(150, 80, 3000, seed=5)
    users = np.array([f"00{user}" for user in log.user_ids], object)
    items = np.array([f"{item}é" for item in log.item_ids], object)
    users[:3], items[:2] = ["line\nbreak", "com,ma", " space "], ["item\nbreak", "日本"]
    columns = {
        "user_id": users[log.user_index],
        "item_id": items[log.item_index],
        "timestamp": log.timestamp,
        "rating": np.arange(len(log.user_index)) % 10 + 1.0,
    }
    pq.write_table(pa.table(columns), folder / "log.parquet")
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("item_id", "title"), *((item, f"about {item}") for item in items)])
    (folder / "config.yaml").write_text(SETTINGS)
    return SimpleNamespace(data=folder / "log.parquet", items=folder / "items.csv", config=folder / "config.yaml")


@pytest.fixture(scope="session")
def run_pipeline(odd_log, tmp_path_factory):
    """Runs `pipelines.run_local` in this process; gives exit code, output, the record in ML Metadata and the layout."""
    layout = run_local.Layout(tmp_path_factory.mktemp("out"))

    def run(*options):
        arguments = ["--data", odd_log.data, "--items", odd_log.items, "--config", odd_log.config, "--out", layout.out]
        # Empty, so that what a run leaves there is seen.
        temporary = tmp_path_factory.mktemp("temporary")
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as out:
            patched.setenv("TMPDIR", str(temporary))
            patched.setattr(tempfile, "tempdir", None)
            code = run_local.main([*map(str, arguments), *options])
        record = RunRecord.latest(layout.metadata)
        left = sorted(temporary.iterdir())
        return SimpleNamespace(code=code, out=out.getvalue(), record=record, layout=layout, left=left)

    return run


@pytest.fixture(scope="module")
def models_load_here():
    """InfraCheck replays the warm-ups in this process and starts none: for runs in which it isn't what is tested."""

    def check_models(model_dirs, timeout_seconds):  # noqa: ARG001
        for path in model_dirs:
            assert replay_warmup(path)
        return []

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tf_hqgnn.tfx.infra_check.check_models", check_models)
        yield


@pytest.fixture(scope="session")
def container_python(tmp_path_factory):
    """A Python that has imported TFX, for all tests of this folder."""
    with ContainerPython(tmp_path_factory.mktemp("python")) as python:
        yield python
