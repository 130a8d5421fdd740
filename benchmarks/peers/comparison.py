"""Splits, trainings and the judge."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cells, commit, machine
from benchmarks.holdout import hold_out_contexts
from benchmarks.peers.job import Job, K, Split
from benchmarks.peers.models import Model
from benchmarks.timing import SHARED_DATA
from tf_hqgnn.config import DataConfig, SplitConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.types import Interactions, concatenate

DATA = {
    "ml-100k": DataConfig(path=str(SHARED_DATA / "ml-100k" / "interactions.csv")),
    "beauty": DataConfig(path=str(SHARED_DATA / "beauty" / "interactions.csv"), k_core=5),
    "toys": DataConfig(path=str(SHARED_DATA / "toys" / "interactions.csv"), k_core=5),
    "sports": DataConfig(path=str(SHARED_DATA / "sports" / "interactions.csv"), k_core=5),
    "lastfm": DataConfig(path=str(SHARED_DATA / "lastfm" / "interactions.csv")),
    "citeulike": DataConfig(path=str(SHARED_DATA / "citeulike" / "interactions.csv")),
    "gowalla": DataConfig(
        train_path=str(SHARED_DATA / "gowalla" / "train.csv"), test_path=str(SHARED_DATA / "gowalla" / "test.csv")
    ),
}
# Where validation is on whole contexts instead of random interactions: the test isn't like a random part of training.
_CONTEXTS = ("gowalla",)
_KEY = ("data", "seed", "model", "config", "epochs_limit", "max_seconds", "refit")
_COLUMNS = (
    *_KEY,
    f"recall@{K}",
    f"ndcg@{K}",
    f"valid_ndcg@{K}",
    "seconds",
    "cpu_seconds",
    "fits",
    "all_seconds",
    "all_cpu_seconds",
    "epochs",
    "best_epoch",
    "out_of_time",
    "peak_bytes",
    "item_bytes",
    "settings",
    "machine",
    "versions",
    "commit",
)


def open_cells(work: Path) -> Cells:
    """The results in `work`."""
    return Cells(work / "peers.csv", _KEY, _COLUMNS)


class Comparison:
    """One data set and seed: the split files, and what each model makes of them.

    Args:
      work: the splits are kept in `work/splits`, made if absent; trainings of unfinished cells in `work/jobs`.
      data: of DATA.
      seed: of the split and the trainings.
    """

    def __init__(self, work: Path, data: str, seed: int) -> None:
        self._work, self._data, self._seed = work, data, seed
        folder = work / "splits" / f"{data}-{seed}"
        self._paths = {name: folder / f"{name}.npz" for name in ("selection", "refit")}
        if not all(path.exists() for path in self._paths.values()):
            folder.mkdir(parents=True, exist_ok=True)
            for name, split in _make_splits(data, seed).items():
                split.save(self._paths[name])
        self._split = Split.load(self._paths["selection"])
        self._popularity = np.bincount(self._split.parts["train"][:, 1], minlength=self._split.num_items)

    def key(
        self, name: str, model: Model, config: str, limit: int | None, max_seconds: float | None, refit: bool
    ) -> dict[str, Any]:
        """What tells this cell from the others; limits that don't apply to the model are no part of it."""
        return {
            "data": self._data,
            "seed": self._seed,
            "model": name,
            "config": config,
            "epochs_limit": limit if limit is not None and model.learns else "",
            "max_seconds": max_seconds if max_seconds and model.minds_seconds else "",
            "refit": refit,
        }

    def shortage(self, model: Model) -> str:
        """Why there isn't the memory for this model now; "" where there is."""
        needed, free = model.bytes_needed(self._split.num_items), _free_bytes()
        return "" if needed <= free else f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"

    def row(self, key: dict[str, Any], model: Model) -> dict[str, Any]:
        """Trains with each of the grid's settings, chooses by validation, refits if asked to, and judges on test.

        Where there is nothing to choose, a refit is all there is. A model that refits itself does so within its one
        fit, and reports its validation from before that.
        """
        started = {"machine": machine(), "commit": commit()}
        folder, grid = self._folder(key), model.grid(self._split.num_items)
        jobs = [
            Job(
                folder=folder / str(number),
                model=key["model"],
                settings=settings,
                split=self._paths["selection"],
                seed=self._seed,
                epochs=None if key["epochs_limit"] == "" else key["epochs_limit"],
                max_seconds=key["max_seconds"] or None,
            )
            for number, settings in enumerate(grid)
        ]
        if key["refit"] and model.refits_itself:
            job = replace(jobs[0], settings=jobs[0].settings | {"refit": True})
            chosen = _result(job, model)
            fits = necessary = [chosen]
        elif key["refit"] and len(grid) == 1 and not model.stops_early:
            job = replace(jobs[0], folder=folder / "refit", split=self._paths["refit"])
            chosen = _result(job, model) | {"valid": ""}
            fits = necessary = [chosen]
        else:
            trials = [(job, self._tried(job, model)) for job in jobs]
            job, chosen = max(trials, key=lambda trial: trial[1]["valid"])
            fits, necessary = [result for _, result in trials], [chosen]
            if key["refit"]:
                job = replace(
                    job,
                    folder=folder / "refit",
                    split=self._paths["refit"],
                    epochs=chosen["best_epoch"],
                    settings=job.settings | chosen.get("found", {}),
                )
                refitted = _result(job, model)
                fits.append(refitted)
                # With the settings known, a refit still needs the number of epochs that a first fit finds.
                necessary = [chosen, refitted] if model.stops_early else [refitted]
        judged = self._judge(job, "test")
        return {
            **key,
            f"recall@{K}": judged[f"recall@{K}"],
            f"ndcg@{K}": judged[f"ndcg@{K}"],
            f"valid_ndcg@{K}": chosen["valid"],
            "seconds": sum(fit["seconds"] for fit in necessary),
            "cpu_seconds": sum(fit["cpu_seconds"] for fit in necessary),
            "fits": len(fits),
            "all_seconds": sum(fit["seconds"] for fit in fits),
            "all_cpu_seconds": sum(fit["cpu_seconds"] for fit in fits),
            "epochs": chosen["epochs"] or "",
            "best_epoch": chosen["best_epoch"] or "",
            "out_of_time": chosen.get("out_of_time", False),
            "peak_bytes": max(fit["peak_bytes"] for fit in necessary),
            "item_bytes": necessary[-1]["item_bytes"],
            "settings": json.dumps(job.settings | chosen.get("settings", {})),
            "versions": necessary[-1]["versions"],
            **started,
        }

    def _tried(self, job: Job, model: Model) -> dict[str, Any]:
        """What a training reports, with its NDCG on the validation split as `valid`."""
        result = _result(job, model)
        result["valid"] = self._judge(job, "valid")[f"ndcg@{K}"]
        print(f"  {json.dumps(job.settings)}: valid {result['valid']:.4f}, {result['seconds']:.1f} s", flush=True)
        return result

    def forget(self, key: dict[str, Any]) -> None:
        """Deletes the trainings of a cell that is done."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: dict[str, Any]) -> Path:
        return self._work / "jobs" / re.sub(r"[^\w.=-]+", "_", "-".join(str(value) for value in key.values()))

    def _judge(self, job: Job, part: str) -> dict[str, float]:
        """The metrics that all are compared by; what `part` is ranked without is the same for rows and for lists."""
        split, pairs = self._split, self._split.parts[part]
        targets = Interactions(*np.ascontiguousarray(pairs.T))
        lists = job.folder / "lists.npz"
        if lists.exists():
            with np.load(lists) as arrays:
                relevant = targets.to_csr(split.num_users)
                return ranking_metrics(arrays[part], relevant, (K,), split.num_items, self._popularity).values
        with np.load(job.folder / "rows.npz") as arrays:
            users, items = arrays["user"], arrays["item"]
        return evaluate_embeddings(users, items, targets, split.seen[part], self._popularity, (K,)).values


def _result(job: Job, model: Model) -> dict[str, Any]:
    """What a training reports; it isn't done again if it was finished before."""
    path = job.folder / "result.json"
    if not path.exists():
        shutil.rmtree(job.folder, ignore_errors=True)
        job.save()
        model.start(job)
    return json.loads(path.read_text(encoding="utf-8"))


def _make_splits(data: str, seed: int) -> dict[str, Split]:
    """`selection` has a part for validation; in `refit` that part is in train. What is masked is the same in both."""
    config = DATA[data]
    if data in _CONTEXTS:
        dataset = hold_out_contexts(load_dataset(config.model_copy(update={"split": SplitConfig(valid=0)}), seed), seed)
    else:
        dataset = load_dataset(config, seed)
    known = concatenate(dataset.train, dataset.valid)
    seen = {name: part.to_csr(dataset.num_users) for name, part in (("valid", dataset.train), ("test", known))}
    test, nothing = _pairs(dataset.test), np.zeros((0, 2), np.int32)
    parts = {
        "selection": {"train": _pairs(dataset.train), "valid": _pairs(dataset.valid), "test": test},
        "refit": {"train": _pairs(known), "valid": nothing, "test": test},
    }
    return {name: Split(dataset.num_users, dataset.num_items, of, seen) for name, of in parts.items()}


def _pairs(interactions: Interactions) -> np.ndarray:
    return np.stack([interactions.user_index, interactions.item_index], axis=1).astype(np.int32)


def _free_bytes() -> int:
    with Path("/proc/meminfo").open(encoding="utf-8") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["MemAvailable"].split()[0]) * 1024
