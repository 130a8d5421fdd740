"""RecBole's LightGCN on a given split, for `benchmarks.lightgcn`; runs in .venv-recbole, without tf_hqgnn.

`python driver.py FOLDER fit`    trains to the end and writes FOLDER/result.json and FOLDER/embeddings.npz.
`python driver.py FOLDER turns`  answers each line `train` or `validate` on standard input, after one epoch or one
                                 validation, with its seconds and its seconds of
                                 processor time on standard output.

FOLDER/settings.json holds RecBole's settings, FOLDER/data/data.{train,valid,test}.inter the split. Tokens are row
numbers of the caller, and embeddings.npz has its rows in the caller's order.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import scipy.sparse
import torch


def patch_dependencies() -> None:
    """Gives RecBole 1.2.1, from outside, the behaviour of releases of its time."""
    # torch.load refuses pickled objects by default now; RecBole's checkpoints hold its Config.
    torch.load = functools.partial(torch.load, weights_only=False)
    if not hasattr(scipy.sparse.dok_matrix, "_update"):

        def update(matrix: scipy.sparse.dok_matrix, entries: dict[tuple[int, int], float]) -> None:
            matrix._dict.update(entries)

        scipy.sparse.dok_matrix._update = update


class Peer:
    """Data, model and trainer as RecBole's quick start makes them (which itself imports ray).

    Attributes:
      train_seconds: of every epoch so far, negative sampling included.
      validation_seconds: of every validation so far.
    """

    def __init__(self, folder: Path) -> None:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.model.general_recommender import LightGCN
        from recbole.trainer import Trainer
        from recbole.utils import init_seed

        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        # RecBole reads the command line for settings of its own.
        sys.argv = sys.argv[:1]
        config = Config(model="LightGCN", dataset="data", config_dict={**settings, "data_path": str(folder)})
        init_seed(config["seed"], config["reproducibility"])
        self.dataset = create_dataset(config)
        # As many users at once as the caller takes: RecBole counts scores, and its default would be one user or two.
        config["eval_batch_size"] = settings["users_per_batch"] * self.dataset.item_num
        self.train_data, self.valid_data, self.test_data = data_preparation(config, self.dataset)
        init_seed(config["seed"], config["reproducibility"])
        self.model = LightGCN(config, self.train_data.dataset).to(config["device"])
        self.trainer = Trainer(config, self.model)
        self.train_seconds: list[float] = []
        self.validation_seconds: list[float] = []
        self.trainer._train_epoch = self._timed(self.trainer._train_epoch, self.train_seconds)
        self.trainer._valid_epoch = self._timed(self.trainer._valid_epoch, self.validation_seconds)

    @staticmethod
    def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            seconds.append(time.perf_counter() - start)
            return result

        return timed

    def fit(self) -> dict[str, Any]:
        """Trains with early stopping; returns what happened, with RecBole's own metrics of the best model."""
        best = [-np.inf, 0]

        def progress(epoch: int, value: float) -> None:
            if value >= best[0]:
                best[:] = [value, epoch + 1]
            trained = sum(self.train_seconds)
            line = f"RecBole epoch {epoch + 1}  best valid ndcg@20 {best[0]:.4f} at epoch {best[1]}  {trained:.0f} s"
            print(line, file=sys.stderr, flush=True)

        start = time.perf_counter()
        self.trainer.fit(self.train_data, self.valid_data, verbose=False, saved=True, callback_fn=progress)
        seconds = time.perf_counter() - start
        own = {
            name: dict(self.trainer.evaluate(data, load_best_model=True))
            for name, data in (("valid", self.valid_data), ("test", self.test_data))
        }
        return {
            "epochs": len(self.train_seconds),
            "best_epoch": best[1],
            "train_seconds": self.train_seconds,
            "validation_seconds": self.validation_seconds,
            "seconds": seconds,
            "own": own,
        }

    def embeddings(self) -> dict[str, np.ndarray]:
        """The convolved rows {"user": float32 [U, d], "item": float32 [I, d]} in the caller's order."""
        self.model.eval()
        with torch.no_grad():
            users, items = self.model.forward()
        return {
            name: self._in_callers_order(field, rows.numpy())
            for name, field, rows in (("user", self.dataset.uid_field, users), ("item", self.dataset.iid_field, items))
        }

    def _in_callers_order(self, field: str, rows: np.ndarray) -> np.ndarray:
        # Row 0 is RecBole's padding.
        tokens = self.dataset.id2token(field, np.arange(1, len(rows))).astype(np.int64)
        if not np.array_equal(np.sort(tokens), np.arange(len(tokens))):
            raise ValueError(f"{field}: expected each of the rows 0 to {len(tokens) - 1} once in the .inter files")
        ordered = np.empty_like(rows[1:])
        ordered[tokens] = rows[1:]
        return ordered

    def take_turns(self) -> None:
        """Trains an epoch or validates whenever the caller asks for it."""
        print("ready", flush=True)
        for line in sys.stdin:
            start, processor = time.perf_counter(), time.process_time()
            if line.strip() == "train":
                self.trainer._train_epoch(self.train_data, len(self.train_seconds))
            else:
                self.trainer._valid_epoch(self.valid_data)
            print(time.perf_counter() - start, time.process_time() - processor, flush=True)


def main() -> None:
    folder, mode = Path(sys.argv[1]).resolve(), sys.argv[2]
    os.chdir(folder)  # where RecBole leaves checkpoints and logs
    patch_dependencies()
    peer = Peer(folder)
    if mode == "turns":
        peer.trainer.eval_collector.data_collect(peer.train_data)
        peer.take_turns()
        return
    result = peer.fit()
    np.savez("embeddings.npz", **peer.embeddings())
    Path("result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
