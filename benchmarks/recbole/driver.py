"""RecBole's models on a given split; runs in .venv-recbole, without tf_hqgnn, as `python -m benchmarks.recbole.driver`.

`... FOLDER fit`    trains to the end and writes FOLDER/result.json and FOLDER/embeddings.npz.
`... FOLDER turns`  answers each line `train` or `validate` on standard input, after one epoch or one validation, with
                    its seconds and its seconds of processor time on standard output.
`... FOLDER job`    does the job (benchmarks.peers.job) that FOLDER is.

FOLDER/settings.json holds RecBole's settings and `model`, FOLDER/data/data.{train,valid,test}.inter the split. Tokens
are row numbers of the caller, and what is written has its rows in the caller's order.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable
from unittest import mock

import numpy as np
import scipy.sparse
import torch
from scipy.linalg.lapack import spotrf, spotri
from threadpoolctl import threadpool_limits

from benchmarks.peers.job import Job, Split, versions_of

# Columns of a matrix that are mirrored at once.
_BLOCK = 1024
_MOST_ROWS_IN_THREADS = 20_000


class OutOfTime(Exception):
    """The job's seconds are over."""


def patch_dependencies() -> None:
    """Gives RecBole 1.2.1, from outside, the behaviour of releases of its time."""
    # torch.load refuses pickled objects by default now; RecBole's checkpoints hold its Config.
    torch.load = functools.partial(torch.load, weights_only=False)
    if not hasattr(scipy.sparse.dok_matrix, "_update"):

        def update(matrix: scipy.sparse.dok_matrix, entries: dict[tuple[int, int], float]) -> None:
            matrix._dict.update(entries)

        scipy.sparse.dok_matrix._update = update


def inverse_in_place(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite float32 matrix, in its memory.

    numpy.linalg.inv, which RecBole's EASE calls, needs twice the memory more: 20 GB in all for Gowalla's items.
    """
    # With two threads SciPy's OpenBLAS crashes on a matrix as large as Gowalla's 40,981 items (20,000 work).
    with threadpool_limits(1 if len(matrix) > _MOST_ROWS_IN_THREADS else None, user_api="blas"):
        # Symmetric, so its transpose, in LAPACK's order of memory, is the same matrix.
        factor, info = spotrf(np.asarray(matrix).T, lower=True, overwrite_a=True)
        if info == 0:
            inverse, info = spotri(factor, lower=True, overwrite_c=True)
    if info != 0:
        raise np.linalg.LinAlgError(f"LAPACK can't invert the matrix: info {info}")
    for start in range(0, len(inverse), _BLOCK):
        end = start + _BLOCK
        square = np.tril(inverse[start:end, start:end])
        inverse[start:end, start:end] = square + np.tril(square, -1).T
        inverse[start:end, end:] = inverse[end:, start:end].T
    # In C order, or SciPy copies the whole matrix for every chunk of users that it multiplies.
    return inverse.T


class Peer:
    """Data, model and trainer as RecBole's quick start makes them (which itself imports ray).

    The data is there at once, model and trainer after `build`.

    Attributes:
      train_seconds: of every epoch so far, negative sampling included.
      validation_seconds: of every validation so far.
      learns: in epochs; the others are ready as soon as they are built.
    """

    def __init__(self, folder: Path) -> None:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import ModelType, init_seed

        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        # RecBole reads the command line for settings of its own.
        sys.argv = sys.argv[:1]
        self.name = settings["model"]
        config = Config(model=self.name, dataset="data", config_dict={**settings, "data_path": str(folder)})
        init_seed(config["seed"], config["reproducibility"])
        self.dataset = create_dataset(config)
        # As many users at once as the caller takes: RecBole counts scores, and its default would be one user or two.
        config["eval_batch_size"] = settings["users_per_batch"] * self.dataset.item_num
        self.train_data, self.valid_data, self.test_data = data_preparation(config, self.dataset)
        self.config = config
        self.learns = config["MODEL_TYPE"] != ModelType.TRADITIONAL
        self.train_seconds: list[float] = []
        self.validation_seconds: list[float] = []

    def build(self) -> None:
        """Makes the model and its trainer."""
        from recbole.trainer import Trainer
        from recbole.utils import get_model, init_seed

        config = self.config
        init_seed(config["seed"], config["reproducibility"])
        with mock.patch.object(np.linalg, "inv", inverse_in_place) if self.name == "EASE" else contextlib.nullcontext():
            self.model = get_model(self.name)(config, self.train_data.dataset).to(config["device"])
        self.trainer = Trainer(config, self.model)
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

    def fit(self, max_seconds: float | None = None) -> dict[str, Any]:
        """Trains with early stopping, goes back to the best model, and returns what happened."""
        best = [-np.inf, 0]
        start = time.perf_counter()

        def progress(epoch: int, value: float) -> None:
            if value >= best[0]:
                best[:] = [value, epoch + 1]
            trained = sum(self.train_seconds)
            line = (
                f"{self.name} epoch {epoch + 1}  best valid ndcg@20 {best[0]:.4f} at epoch {best[1]}  {trained:.0f} s"
            )
            print(line, file=sys.stderr, flush=True)
            if max_seconds is not None and time.perf_counter() - start > max_seconds:
                raise OutOfTime

        out_of_time = False
        try:
            self.trainer.fit(self.train_data, self.valid_data, verbose=False, saved=True, callback_fn=progress)
        except OutOfTime:
            out_of_time = True
        seconds = time.perf_counter() - start
        checkpoint = torch.load(self.trainer.saved_model_file)
        self.model.load_state_dict(checkpoint["state_dict"])
        self.model.load_other_parameter(checkpoint["other_parameter"])
        return {
            "epochs": len(self.train_seconds),
            "best_epoch": best[1],
            "train_seconds": self.train_seconds,
            "validation_seconds": self.validation_seconds,
            "fit_seconds": seconds,
            "out_of_time": out_of_time,
        }

    def refit(self) -> dict[str, Any]:
        """Trains all epochs; nothing is held out to choose one by."""
        self.trainer.fit(self.train_data, None, verbose=False, saved=False)
        return {"epochs": len(self.train_seconds), "best_epoch": len(self.train_seconds)}

    def own_metrics(self) -> dict[str, dict[str, float]]:
        """Those of the model as RecBole works them out, by `valid` and `test`."""
        parts = {"valid": self.valid_data, "test": self.test_data}
        return {name: dict(self.trainer.evaluate(data, load_best_model=False)) for name, data in parts.items()}

    @torch.no_grad()
    def embeddings(self) -> dict[str, np.ndarray]:
        """The rows whose dot product is the score, {"user": float32 [U, d], "item": [I, d]}, in the caller's order."""
        model = self.model
        model.eval()
        if self.name == "LightGCN":
            users, items = model.forward()
        elif self.name == "BPR":
            users, items = model.user_embedding.weight, model.item_embedding.weight
        elif self.name == "SimpleX":
            items, history = model.item_emb.weight, model.history_item_id
            # All histories at once would take [U, 50, d].
            users = torch.cat(
                [
                    model.get_UI_aggregation(model.user_emb.weight[rows], items[history[rows]], lengths)
                    for rows, lengths in zip(
                        torch.arange(model.n_users).split(_BLOCK), model.history_item_len.split(_BLOCK)
                    )
                ]
            )
            users, items = torch.nn.functional.normalize(users), torch.nn.functional.normalize(items)
        else:
            raise ValueError(f"{self.name} has no rows for users and items; take `scores`")
        fields = (("user", self.dataset.uid_field, users), ("item", self.dataset.iid_field, items))
        return {name: rows.numpy()[self._rows(field)] for name, field, rows in fields}

    def scores(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function from n users to float32 [n, I], both in the caller's order."""
        from recbole.data.interaction import Interaction

        user_rows, item_rows = self._rows(self.dataset.uid_field), self._rows(self.dataset.iid_field)

        def score(users: np.ndarray) -> np.ndarray:
            batch = Interaction({self.dataset.uid_field: torch.from_numpy(user_rows[users])})
            return self.model.full_sort_predict(batch).view(len(users), -1).numpy()[:, item_rows]

        return score

    def item_bytes(self) -> float:
        """Memory an item of a model without rows."""
        if self.name == "EASE":
            return self.model.item_similarity.nbytes / self.dataset.item_num
        return (self.model.w.data.nbytes + self.model.w.indices.nbytes) / self.dataset.item_num

    def _rows(self, field: str) -> np.ndarray:
        """RecBole's row of each of the caller's rows; its row 0 is padding."""
        tokens = self.dataset.id2token(field, np.arange(1, self.dataset.num(field))).astype(np.int64)
        if not np.array_equal(np.sort(tokens), np.arange(len(tokens))):
            raise ValueError(f"{field}: expected each of the rows 0 to {len(tokens) - 1} once in the .inter files")
        return np.argsort(tokens) + 1

    def take_turns(self) -> None:
        """Trains an epoch or validates whenever the caller asks for it."""
        self.trainer.eval_collector.data_collect(self.train_data)
        print("ready", flush=True)
        for line in sys.stdin:
            start, processor = time.perf_counter(), time.process_time()
            if line.strip() == "train":
                self.trainer._train_epoch(self.train_data, len(self.train_seconds))
            else:
                self.trainer._valid_epoch(self.valid_data)
            print(time.perf_counter() - start, time.process_time() - processor, flush=True)


def do_job(peer: Peer, job: Job) -> None:
    split, happened = Split.load(job.split), {}
    with job.measure():
        peer.build()
        if peer.learns:
            happened = peer.fit(job.max_seconds) if len(split.parts["valid"]) else peer.refit()
    if peer.learns:
        rows = peer.embeddings()
        job.save_rows(rows["user"], rows["item"])
        item_bytes = 4.0 * rows["item"].shape[1]
    else:
        job.save_lists(split, peer.scores())
        item_bytes = peer.item_bytes()
    job.finish(item_bytes, versions_of("recbole", "torch", "numpy"), **happened)


def main() -> None:
    folder, mode = Path(sys.argv[1]).resolve(), sys.argv[2]
    os.chdir(folder)  # where RecBole leaves checkpoints and logs
    patch_dependencies()
    peer = Peer(folder)
    if mode == "job":
        do_job(peer, Job.load(folder))
        return
    peer.build()
    if mode == "turns":
        peer.take_turns()
        return
    result = peer.fit()
    np.savez("embeddings.npz", **peer.embeddings())
    Path("result.json").write_text(json.dumps({**result, "own": peer.own_metrics()}), encoding="utf-8")


if __name__ == "__main__":
    main()
