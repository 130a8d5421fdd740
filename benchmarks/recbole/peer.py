"""RecBole from this side: the split in its format, its settings, and its process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.cells import ROOT
from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset

_PYTHON = ROOT / ".venv-recbole" / "bin" / "python"


def check_environment() -> None:
    """Exits with what to do where RecBole's environment is missing."""
    if not (_PYTHON.parent.parent / ".installed").is_file():
        raise SystemExit("RecBole's environment is not there: run `make .venv-recbole/.installed`")


def prepare(dataset: SplitDataset, config: Config, folder: Path) -> None:
    """Writes the split and the settings that make RecBole do what `config` makes tf_hqgnn do.

    What stays different: RecBole trains on the last, smaller batch of an epoch, too, and starts from a uniform
    distribution of the variance of our normal one.

    Args:
      dataset: every user and item must have an interaction, or RecBole won't know it.
      config: of a LightGCN with the loss bpr and one negative.
      folder: to be filled.
    """
    training = config.training
    settings = base_settings("LightGCN", config.seed, config.evaluation.chunk_size) | {
        "embedding_size": config.model.embedding_dim,
        "n_layers": config.model.num_layers,
        # With require_pow it is half the squared L2 over the batch size, as ours; without, a sum of unsquared norms.
        "reg_weight": config.loss.weight_decay,
        "require_pow": True,
        "train_neg_sample_args": negatives(config.loss.num_negatives),
        "learning_rate": training.learning_rate,
        "train_batch_size": training.batch_size,
        "epochs": training.max_epochs,
        "eval_step": training.evaluate_every,
        # RecBole stops at the first validation beyond this number of bad ones, tf_hqgnn at the last of them.
        "stopping_step": training.patience - 1,
    }
    write_dataset(folder, settings, dataset)


def base_settings(model: str, seed: int, users_per_batch: int) -> dict[str, Any]:
    """What all of RecBole's models are told: which files, which metric, on the processor and quietly."""
    return {
        "model": model,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "benchmark_filename": ["train", "valid", "test"],
        "seed": seed,
        "learner": "adam",
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [20],
        "valid_metric": "NDCG@20",
        "metric_decimal_place": 6,
        "users_per_batch": users_per_batch,
        "use_gpu": False,
        "show_progress": False,
        "save_dataset": False,
    }


def negatives(count: int) -> dict[str, Any]:
    """RecBole's settings for `count` uniform negatives."""
    return {"distribution": "uniform", "sample_num": count, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


def write_dataset(folder: Path, settings: Mapping[str, Any], dataset: SplitDataset) -> None:
    """As `write`, with the pairs of a dataset."""
    parts = {name: getattr(dataset, name) for name in ("train", "valid", "test")}
    write(folder, settings, {name: np.stack([p.user_index, p.item_index], axis=1) for name, p in parts.items()})


def write(folder: Path, settings: Mapping[str, Any], parts: Mapping[str, np.ndarray]) -> None:
    """Fills `folder` with the settings and the pairs, int [n, 2], of `train`, `valid` and `test`."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, pairs in parts.items():
        with (folder / "data" / f"data.{name}.inter").open("w", encoding="utf-8") as file:
            file.write("user_id:token\titem_id:token\n")
            file.writelines(f"{user}\t{item}\n" for user, item in pairs)
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def fit(folder: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Trains RecBole's model in the prepared `folder`.

    Returns:
      What the driver reports, and the rows of its best model: users [U, d], items [I, d].
    """
    subprocess.run(command(folder, "fit"), env=environment(), cwd=ROOT, check=True)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with np.load(folder / "embeddings.npz") as arrays:
        return result, arrays["user"], arrays["item"]


class Turns:
    """RecBole in a process that waits between an epoch and the next: `with Turns(folder) as peer: peer.train()`."""

    def __init__(self, folder: Path) -> None:
        self._command = command(folder, "turns")

    def __enter__(self) -> Turns:
        self._process = subprocess.Popen(
            self._command, env=environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            if self._process.stdin:
                self._process.stdin.close()

    def train(self) -> np.ndarray:
        """[2]: seconds of one more epoch, and of processor time."""
        return self._ask("train")

    def validate(self) -> np.ndarray:
        """[2]: seconds of a full-ranking validation, and of processor time."""
        return self._ask("validate")

    def _ask(self, what: str) -> np.ndarray:
        if self._process.stdin:
            print(what, file=self._process.stdin, flush=True)
        return np.array(self._answer().split(), np.float64)

    def _answer(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("RecBole's process ended before it answered; its messages are on standard error")
        return line


def command(folder: Path, mode: str) -> list[str]:
    """Of RecBole's process, to be run in ROOT with `environment`; benchmarks.recbole.driver has the modes."""
    return [str(_PYTHON), "-W", "ignore", "-m", "benchmarks.recbole.driver", str(folder.resolve()), mode]


def environment() -> dict[str, str]:
    """Both cores, as by default, but waiting threads of torch don't spin.

    With other work on both cores (load 4) spinning made an epoch of ml-100k take 9 to 29 s instead of 1.4 s. What it
    does on a quiet machine was not measured; set OMP_WAIT_POLICY to try.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
