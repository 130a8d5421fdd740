"""Forgetting in a run directory: every file of it that holds a user, written anew."""

from __future__ import annotations

import glob
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tf_hqgnn.data.parquet_file import read_parquet_table
from tf_hqgnn.data.removal import without_users
from tf_hqgnn.features.model import FEATURES_FILE
from tf_hqgnn.files.durable import staged_folder, staged_name, sync, write_file
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.forget.record import Forgotten
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.runs.manifest import ADDED_ITEMS, CURE, REFIT, write_manifest
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.types import BoolArray, InputError, concatenate

# At the top of a run: settings, metrics and curves, none of which names a user.
_KEPT = (".yaml", ".csv", ".json")
_NOT_KEPT = ("manifest.json",)


def forget_in_run(run_dir: Path, record: Forgotten) -> None:
    """Replaces a run directory by one without the users; checkpoints, plots and the report are left out.

    The caller holds the `run_lock`.

    The new one is complete before it takes the place of the old one. Killed between the two renames of that, the run
    has the name `RUN.forgetting`, and the same call gives it its name.

    Args:
      run_dir: of `tf-hqgnn train`.
      record: names the users, and gets what is done.

    Raises:
      InputError: It isn't a finished run, or it knows nobody else.
    """
    _finish(run_dir)
    run = RunDirectory.load(run_dir)
    users = np.array(record.users, object)
    record.note_known(run.dataset.user_ids)
    kept = ~np.isin(run.dataset.user_ids, users)
    added = [path for path in sorted(run_dir.glob(f"{ADDED_ITEMS}/*/pairs.parquet")) if _names(path, record.users)]
    if kept.all() and not added:
        return
    if not kept.any():
        raise InputError(f"{run_dir} has no users but these; delete the folder instead")
    with staged_folder(_waiting(run_dir)) as staged:
        left_out = _write(run, kept, record.users, staged)
    RunDirectory.load(_waiting(run_dir))
    old = staged_name(run_dir)
    run_dir.rename(old)
    _waiting(run_dir).rename(run_dir)
    sync(run_dir.parent)
    shutil.rmtree(old)
    what = f"; removed {', '.join(left_out)}, which may show them" if left_out else ""
    record.touched.append(f"{run_dir}: ids, embeddings, codes, interactions and graph are written without them{what}")


def check_run(run_dir: Path) -> None:
    """Refuses what isn't a finished run, nor one of which a killed call has left its other name.

    Raises:
      InputError: It isn't there, or no run.
    """
    if not _waiting(run_dir).exists():
        RunDirectory.load(run_dir)


def _waiting(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}.forgetting")


def _finish(run_dir: Path) -> None:
    """Ends what a killed call began."""
    waiting = _waiting(run_dir)
    if waiting.is_dir() and not run_dir.exists():
        waiting.rename(run_dir)
    if waiting.is_dir():
        shutil.rmtree(waiting)
    for path in run_dir.parent.glob(f".tmp-{'?' * 32}-{glob.escape(run_dir.name)}"):
        shutil.rmtree(path)


def _write(run: RunDirectory, kept: BoolArray, users: tuple[str, ...], folder: Path) -> list[str]:
    """Writes the run without the users into a folder, and returns what of it was left out."""
    dataset = without_users(run.dataset, kept)
    dataset.save(folder / "data")
    write_file(folder / "data.sha256", dataset.fingerprint())
    for path in run.path.iterdir():
        if path.is_file() and path.suffix in _KEPT and path.name not in _NOT_KEPT:
            shutil.copyfile(path, folder / path.name)
    learnt = concatenate(dataset.train, dataset.valid) if run.config.training.refit is True else dataset.train
    sizes = dataset.num_users, dataset.num_items
    _write_model(run, kept, InteractionGraph.from_interactions(learnt, *sizes, dataset.disliked), folder)
    served = run.served()
    if served.is_refitted:
        (folder / REFIT).mkdir()
        everything = concatenate(dataset.train, dataset.valid, dataset.test)
        graph = InteractionGraph.from_interactions(everything, *sizes, dataset.disliked)
        _write_model(served, kept, graph, folder / REFIT)
    for path in run.path.glob(f"{ADDED_ITEMS}/*/*"):
        copy = folder / path.relative_to(run.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "pairs.parquet":
            _write_rest(path, users, copy)
        else:
            shutil.copyfile(path, copy)
    write_manifest(folder)
    written = {path.name for path in folder.iterdir()}
    return sorted(path.name for path in run.path.iterdir() if path.name not in {*written, *_NOT_KEPT})


def _write_model(run: RunDirectory, kept: BoolArray, graph: InteractionGraph, folder: Path) -> None:
    """Writes the rows, the codes and the graph of a run, or of its refit, without the users."""
    arrays = read_arrays(run.path / "embeddings.npz", cure=CURE)
    of_users = {name: values[kept] for name, values in arrays.items() if name == "user" or name.endswith("_user")}
    np.savez(folder / "embeddings.npz", **{**arrays, **of_users})
    tables = TrainedTables.load(run.path)
    TrainedTables(tables.users[kept], tables.items).save(folder)
    if (run.path / FEATURES_FILE).is_file():
        shutil.copyfile(run.path / FEATURES_FILE, folder / FEATURES_FILE)
    if (run.path / "config.yaml").is_file():
        shutil.copyfile(run.path / "config.yaml", folder / "config.yaml")
    (folder / "graph").mkdir()
    graph.save(folder / "graph" / "graph.npz")
    if run.coded is not None:
        (folder / "codes").mkdir()
        users = run.coded.users
        rest = users.take(kept) if isinstance(users, Codes) else users[kept]
        replace(run.coded, users=rest).save(folder / "codes")


def _names(path: Path, users: tuple[str, ...]) -> bool:
    return bool(pc.any(pc.is_in(read_parquet_table(path)["user_id"], pa.array(users, pa.utf8()))).as_py())


def _write_rest(path: Path, users: tuple[str, ...], copy: Path) -> None:
    table = read_parquet_table(path)
    pq.write_table(table.filter(pc.invert(pc.is_in(table["user_id"], pa.array(users, pa.utf8())))), copy)
