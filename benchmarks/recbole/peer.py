"""RecBole's LightGCN from this side: the split in its format, the same settings, and its process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset

_ROOT = Path(__file__).resolve().parent.parent.parent
_PYTHON = _ROOT / ".venv-recbole" / "bin" / "python"
_DRIVER = Path(__file__).resolve().parent / "driver.py"


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
    (folder / "data").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        pairs = getattr(dataset, part)
        with open(folder / "data" / f"data.{part}.inter", "w", encoding="utf-8") as file:
            file.write("user_id:token\titem_id:token\n")
            file.writelines(f"{user}\t{item}\n" for user, item in zip(pairs.user_index, pairs.item_index))
    settings = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "benchmark_filename": ["train", "valid", "test"],
        "seed": config.seed,
        "embedding_size": config.model.embedding_dim,
        "n_layers": config.model.num_layers,
        # With require_pow it is half the squared L2 over the batch size, as ours; without, a sum of unsquared norms.
        "reg_weight": config.loss.weight_decay,
        "require_pow": True,
        "train_neg_sample_args": {
            "distribution": "uniform",
            "sample_num": config.loss.num_negatives,
            "alpha": 1.0,
            "dynamic": False,
            "candidate_num": 0,
        },
        "learner": "adam",
        "learning_rate": training.learning_rate,
        "train_batch_size": training.batch_size,
        "epochs": training.max_epochs,
        "eval_step": training.evaluate_every,
        # RecBole stops at the first validation beyond this number of bad ones, tf_hqgnn at the last of them.
        "stopping_step": training.patience - 1,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [20],
        "valid_metric": "NDCG@20",
        "metric_decimal_place": 6,
        "users_per_batch": config.evaluation.chunk_size,
        "use_gpu": False,
        "show_progress": False,
        "save_dataset": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def fit(folder: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Trains RecBole's model in the prepared `folder`.

    Returns:
      What the driver reports, and the rows of its best model: users [U, d], items [I, d].
    """
    subprocess.run(_command(folder, "fit"), env=_environment(), check=True)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with np.load(folder / "embeddings.npz") as arrays:
        return result, arrays["user"], arrays["item"]


class Turns:
    """RecBole in a process that waits between an epoch and the next: `with Turns(folder) as peer: peer.train()`."""

    def __init__(self, folder: Path) -> None:
        self._command = _command(folder, "turns")

    def __enter__(self) -> Turns:
        self._process = subprocess.Popen(
            self._command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def _command(folder: Path, mode: str) -> list[str]:
    return [str(_PYTHON), "-W", "ignore", str(_DRIVER), str(folder), mode]


def _environment() -> dict[str, str]:
    """Both cores, as by default, but waiting threads of torch don't spin.

    With other work on both cores (load 4) spinning made an epoch of ml-100k take 9 to 29 s instead of 1.4 s. What it
    does on a quiet machine was not measured; set OMP_WAIT_POLICY to try.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
