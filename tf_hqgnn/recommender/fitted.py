"""A trained model in memory: its run, what it serves, and the items that were added since."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import Config, ExportConfig, RetrievalConfig
from tf_hqgnn.data.any_log import LogInput, id_types_of
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.items import ItemCatalogue, rows_of
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.export.bundle import ServingBundle, as_float32
from tf_hqgnn.export.layout import EXACT_MODEL, ModelSettings
from tf_hqgnn.export.module import ServingModule
from tf_hqgnn.export.new_items import extend
from tf_hqgnn.export.of_runs import addition_files, read_additions
from tf_hqgnn.export.serving_module import make_module
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.graph.csr import CSR, keep_entries, rows_of_entries
from tf_hqgnn.queries.tables import AnswerForm
from tf_hqgnn.runs.manifest import ADDED_ITEMS
from tf_hqgnn.runs.packed_run import PackedRun
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Array, BoolArray, InputError, IntArray, Interactions, concatenate

_ID_TYPES = "id_types.json"


class FittedModel:
    """A finished run, ready to answer.

    Args:
      packed: the run, with the items that were added to it.

    Attributes:
      additions: the logs and items that were added, in their order.
    """

    def __init__(self, packed: PackedRun) -> None:
        self.packed = packed
        with packed.unpacked() as folder:
            self.run = RunDirectory.load(folder)
            self.bundle = ServingBundle.from_run(self.run)
            served = self.run.served().dataset
            self.additions = read_additions(folder)
        self.form = _form(packed, self.run.dataset)
        # What the model hasn't learnt, and doesn't return all the same.
        parts = (served.test,) if self.run.config.training.refit is True else (served.valid, served.test)
        self._held_out = concatenate(*parts)
        self._module: ServingModule | None = None
        self._functions: dict[str, Callable[..., dict[str, tf.Tensor]]] = {}
        for table, items in self.additions:
            self._extend(table, items)

    def __getstate__(self) -> PackedRun:
        """Everything follows from the files."""
        return self.packed

    def __setstate__(self, packed: PackedRun) -> None:
        self.__init__(packed)  # type: ignore[misc]

    @property
    def module(self) -> ServingModule:
        """What answers: the module that an export saves."""
        if self._module is None:
            self._module = make_module(self.bundle, EXACT_MODEL, ModelSettings(ExportConfig(), RetrievalConfig()))
        return self._module

    def predict(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a signature, strings as objects of bytes.

        Raises:
          InputError: The model doesn't have it.
        """
        if signature not in self.module.signatures():
            raise InputError(
                f"{signature}: this model has learnt nothing from features of users; fit it with users= and their "
                "features"
            )
        if signature not in self._functions:
            # Called as such a function, TensorFlow warns of every model after the fourth in a process.
            self._functions[signature] = getattr(self.module, signature).get_concrete_function()
        outputs = self._functions[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def evaluate(self, table: InteractionTable, ks: tuple[int, ...]) -> dict[str, float]:
        """Metrics of the full catalogue's ranking against a log that was held out.

        Raises:
          InputError: No user of the log is known, or all of its pairs are seen ones.
        """
        bundle, size = self.bundle, len(self.bundle.item_ids)
        users, items = rows_of(bundle.user_ids, table.user_ids), rows_of(bundle.item_ids, table.item_ids)
        # New items can't be recommended, and count as missed.
        items[items < 0] = size + np.arange((items < 0).sum())
        catalogue = size + int((items >= size).sum())
        user_index, item_index = users[table.interactions.user_index], items[table.interactions.item_index]
        learnt = self._learnt()
        available = bundle.item_available
        # An item out of stock can't be recommended, and isn't asked for.
        sold = (
            np.ones(catalogue, bool)
            if available is None
            else np.pad(available, (0, catalogue - size), constant_values=True)
        )
        held_out = (
            self._is_known(user_index)
            & sold[item_index]
            & ~np.isin(user_index * catalogue + item_index, rows_of_entries(learnt) * catalogue + learnt[1])
        )
        if not held_out.any():
            raise InputError(
                "evaluate: the log has nothing to judge: its users are unknown, or the model has learnt from its rows"
            )
        targets = Interactions(user_index[held_out].astype(np.int32), item_index[held_out].astype(np.int32))
        judged = np.unique(targets.user_index)
        chunk = self.run.config.evaluation.chunk_size
        tables = as_float32(bundle.users), as_float32(bundle.items)
        top = rank(*tables, judged, learnt, max(ks), chunk, available)
        indptr, indices = targets.to_csr(len(bundle.user_ids))
        popularity = np.pad(bundle.item_popularity, (0, catalogue - size))
        relevant = np.append(indptr[judged], indptr[-1]), indices
        return ranking_metrics(top, relevant, ks, catalogue, popularity).values

    def _is_known(self, user_rows: IntArray) -> BoolArray:
        """Whether users, rows or -1, are known to the model."""
        known: BoolArray = user_rows >= 0
        if self.bundle.known_users is not None:
            known &= self.bundle.known_users[np.maximum(user_rows, 0)]
        return known

    def _learnt(self) -> CSR:
        """What was taken or disliked, without what was held out of training."""
        bundle, size, pairs = self.bundle, len(self.bundle.item_ids), self._held_out
        items = rows_of(bundle.item_ids, self.run.dataset.item_ids)[pairs.item_index]
        held_out = (pairs.user_index.astype(np.int64) * size + items)[items >= 0]
        return keep_entries(bundle.seen, ~np.isin(rows_of_entries(bundle.seen) * size + bundle.seen[1], held_out))

    def add_items(self, table: InteractionTable | None, items: ItemCatalogue | None) -> dict[str, int]:
        """Adds the new items of a log, as `export.new_items.add_items` does; says how many.

        Raises:
          InputError: There is none of a known user, or with known features.
        """
        counts = self._extend(table, items)
        number = len({name.split("/")[1] for name in self.packed.files if name.startswith(f"{ADDED_ITEMS}/")})
        files = addition_files(number, (table, items))
        self.additions.append((table, items))
        self.packed = PackedRun({**self.packed.files, **files})
        return counts

    def _extend(self, table: InteractionTable | None, items: ItemCatalogue | None) -> dict[str, int]:
        self.bundle, counts = extend(self.bundle, table, items)
        self._module = None
        self._functions = {}
        if items is not None and items.title is not None:
            titles = dict(self.form.titles or {}) | dict(zip(items.item_ids, items.title))
            self.form = replace(self.form, titles=titles)
        return counts

    def trained_state(self) -> TrainedState:
        """What a warm start begins with."""
        with self.packed.unpacked() as folder:
            return TrainedState.load(folder)


def fit_model(
    dataset: SplitDataset,
    log: LogInput,
    config: Config,
    run_dir: str | os.PathLike[str] | None = None,
    state: TrainedState | None = None,
) -> FittedModel:
    """Trains a model.

    Args:
      dataset: what on.
      log: says in which types ids came.
      config: all settings.
      run_dir: where the run directory stays; None for nowhere.
      state: the model to start from.
    """
    types = {name: asdict(kind) for name, kind in log.id_types.items()} | {"library": log.library}

    def note_types(run: RunDirectory) -> None:
        write_file(run.path / _ID_TYPES, json.dumps(types, indent=2) + "\n")

    def trained(out: Path) -> FittedModel:
        train(dataset, config, out, hooks=(note_types,), state=state)
        return FittedModel(PackedRun.read(out))

    if run_dir is not None:
        return trained(Path(run_dir))
    with tempfile.TemporaryDirectory(prefix="tf_hqgnn-") as folder:
        return trained(Path(folder) / "run")


def _form(packed: PackedRun, dataset: SplitDataset) -> AnswerForm:
    types: dict[str, Any] = id_types_of(dataset.report)
    library = "pandas"
    if _ID_TYPES in packed.files:
        noted = json.loads(packed.files[_ID_TYPES])
        types, library = {name: type(types[name])(**noted[name]) for name in types}, noted["library"]
    titles = None if dataset.titles is None else dict(zip(dataset.item_ids, dataset.titles))
    return AnswerForm(types["user_id"], types["item_id"], "polars" if library == "polars" else "pandas", titles)
