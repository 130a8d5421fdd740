"""From the settings to the data of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.feature_input import Holds, read_features
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.growth import with_features
from tf_hqgnn.data.input_file import paths_of
from tf_hqgnn.data.interaction_table import InteractionTable, counted
from tf_hqgnn.data.interactions import read_spans, read_table
from tf_hqgnn.data.items import ItemCatalogue, read_items
from tf_hqgnn.data.log_rules import EVERY_ROW, LogRules
from tf_hqgnn.data.named_inputs import refuse_stores_of
from tf_hqgnn.data.report import BadRowLog, ReadReport
from tf_hqgnn.data.spans import resolve_spans
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.data.splits import (
    TEST,
    TRAIN,
    VALID,
    divide,
    k_core,
    k_core_mask,
    split_leave_last_out,
    split_random,
    split_temporal,
)
from tf_hqgnn.data.union import aged, union
from tf_hqgnn.types import InputError, concatenate

Parts = npt.NDArray[np.int8]
# Of users and of items; None where nothing is known.
Features = tuple[FeatureTable | None, FeatureTable | None]


def load_dataset(config: DataConfig, seed: int) -> SplitDataset:
    """Reads, validates, filters and splits the interactions that `config` names, and reads the items.

    With `path`, which may name the files of several days (`{SPAN}`, see data.spans), the split is by `config.split`.
    With `train_path` and `test_path` it is given: validation is `valid_path`, or else the share `config.split.valid` of
    each user's training interactions, held out at random. A pair that is in an earlier file (train, valid, test) counts
    as a duplicate. `k_core` then looks at all interactions together.

    Args:
      config: the section `data` of a run's settings.
      seed: of the split.

    Raises:
      InputError: The input or the settings can't be used; one line says what, where and how to mend it.
    """
    refuse_stores_of(config)
    spans = () if config.path is None else resolve_spans(config.path, config.num_spans)
    others = (config.train_path, config.valid_path, config.test_path, config.items_path, config.users_path)
    inputs = [span.path for span in spans] + [one for path in others if path is not None for one in paths_of(path)]
    with BadRowLog(config.max_bad_rows, config.quarantine_path, inputs) as log:
        if spans:
            limits = config.max_growth, config.max_id_drift
            table, part = split_log(read_spans(spans, config.format, log, LogRules.of(config), *limits), config, seed)
        elif config.train_path is not None and config.test_path is not None:
            table, part = _read_given(config.train_path, config.test_path, config, log, seed)
        else:
            raise InputError("no input: set data.path, or data.train_path with data.test_path")
    items = None if config.items_path is None else read_items(config.items_path, config.columns)
    features = read_configured(config)
    return make_dataset(table, part, items, f"{config.items_path}", "check data.items_path", features)


def read_configured(config: DataConfig) -> Features:
    """Reads the features of users and items that the settings name; None where they name none.

    Raises:
      InputError: A file can't be read, has no such column, or isn't named.
    """
    tables: list[FeatureTable | None] = []
    sides: tuple[Holds, Holds] = ("users", "items")
    for holds in sides:
        path = getattr(config, f"{holds}_path")
        names = getattr(config, f"{holds[:-1]}_features")
        if path is None and names and names != "auto":
            raise InputError(f"data.{holds[:-1]}_features names columns of data.{holds}_path, which is missing")
        tables.append(None if path is None else read_features(path, holds, names, config.columns))
    return tables[0], tables[1]


def split_log(table: InteractionTable, config: DataConfig, seed: int) -> tuple[InteractionTable, Parts]:
    """The table without what the k-core leaves out, and the part of each interaction by `config.split`."""
    table = k_core(counted(table), config.k_core).compact()
    return table, _split(table, config, seed)


def join_valid(
    table: InteractionTable, valid: InteractionTable, config: DataConfig, log: BadRowLog
) -> tuple[InteractionTable, Parts]:
    """The union of two tables, whose second one is for validation but for what is in the first one, too."""
    table, row = union(counted(table), counted(valid), log)
    return _in_k_core(table, np.where(row >= 0, TRAIN, VALID).astype(np.int8), config.k_core)


def make_dataset(
    table: InteractionTable,
    part: Parts,
    items: ItemCatalogue | None = None,
    items_name: str = "items",
    advice: str = "check the ids",
    features: Features = (None, None),
) -> SplitDataset:
    """The dataset of interactions and their parts, with what is known of the items.

    Args:
      table: the interactions.
      part: int8 [n], of each.
      items: of any items; at least one of them must be in the table.
      items_name: what messages call them.
      advice: what to do where none is.
      features: of users and items; those without interactions are in the dataset, too.

    Raises:
      InputError: Nothing is left to train on, or none of `items` is in the table or available.
    """
    train, valid, test = divide(table.interactions, part)
    if not len(train):
        raise InputError("no interaction is left for training; check data.split and data.k_core")
    dataset = SplitDataset(
        table.user_ids,
        table.item_ids,
        train,
        valid,
        test,
        report=table.report,
        disliked=table.disliked,
        taken=table.taken,
    )
    if items is None:
        return with_features(dataset, *features)
    if not set(items.item_ids).intersection(dataset.item_ids):
        raise InputError(
            f"{items_name}: none of its {len(items.item_ids):,} items is among the {dataset.num_items:,} of the "
            f"interactions (such as {dataset.item_ids[0]!r}); expected the same item_id in both, {advice}"
        )
    dataset = with_features(dataset, *features)
    aligned = items.align(dataset.item_ids)
    if aligned.available is not None and not aligned.available.any():
        raise InputError(
            f"{items_name}: all {dataset.num_items:,} items of the interactions are out of stock, so that none could "
            "be recommended; expected some that are available, check the column available"
        )
    return replace(dataset, titles=aligned.title, categories=aligned.category, available=aligned.available)


def extend_dataset(
    dataset: SplitDataset,
    new: InteractionTable,
    items: ItemCatalogue | None,
    log: BadRowLog,
    rules: LogRules = EVERY_ROW,
    features: Features = (None, None),
) -> SplitDataset:
    """The dataset with the interactions of a later log added to those for training.

    What is in a part already stays there. What `items` says of an item comes before what was known of it.

    Args:
      dataset: what a model was made from.
      new: the later log.
      items: of any items.
      log: the bad rows of the later log.
      rules: by which both were read: what a pair of both weighs, and what time takes from the earlier weights.
      features: of any users and items, as `items`.

    Raises:
      InputError: The timestamps of the two are in different units.
    """
    everything = concatenate(dataset.train, dataset.valid, dataset.test)
    part = np.repeat(
        np.array([TRAIN, VALID, TEST], np.int8), [len(dataset.train), len(dataset.valid), len(dataset.test)]
    )
    order = np.lexsort((everything.item_index, everything.user_index))
    before = dataset.report
    report = ReadReport(
        len(part),
        len(part),
        0,
        0,
        files=before.files,
        rules=before.rules,
        unused=before.unused,
        last_time=before.last_time,
    )
    taken = None if dataset.taken is None and new.taken is None else dataset.history()
    old = InteractionTable(
        dataset.user_ids, dataset.item_ids, everything.take(order), None, report, dataset.disliked, taken
    )
    new = counted(new).compact((old.user_ids, old.item_ids))
    table, row = union(aged(old, new, rules), new, log, rules)
    known = ItemCatalogue(dataset.item_ids, dataset.titles, dataset.categories, dataset.available)
    about = known if items is None else items.over(known)
    parts = np.where(row >= 0, part[order][row], TRAIN).astype(np.int8)
    known_before = dataset.user_features, dataset.item_features
    return with_features(make_dataset(table, parts, about, features=known_before), *features)


def _split(table: InteractionTable, config: DataConfig, seed: int) -> Parts:
    split = config.split
    if split.method == "random":
        return split_random(table, split.valid, split.test, seed)
    if split.method == "leave_last_out":
        return split_leave_last_out(table, seed)
    return split_temporal(table, split.valid, split.test)


def _read_given(
    train_path: str, test_path: str, config: DataConfig, log: BadRowLog, seed: int
) -> tuple[InteractionTable, Parts]:
    """The union of the files, and the part of each interaction."""

    def read(path: str, is_later: bool = False) -> InteractionTable:
        return counted(read_table(path, config.format, log, replace(LogRules.of(config), is_later=is_later)))

    known = read(train_path)
    if config.valid_path is None:
        part = split_random(known, config.split.valid, 0.0, seed)
    else:
        known, row_in_train = union(known, read(config.valid_path, is_later=True), log)
        part = np.where(row_in_train >= 0, TRAIN, VALID)
    table, row_in_known = union(known, read(test_path, is_later=True), log)
    part = np.where(row_in_known >= 0, part[row_in_known], TEST).astype(np.int8)
    return _in_k_core(table, part, config.k_core)


def _in_k_core(table: InteractionTable, part: Parts, k: int) -> tuple[InteractionTable, Parts]:
    mask = k_core_mask(table.interactions, k)
    if not (part[mask] == TRAIN).any():
        raise InputError(f"k_core={k}: no interaction is left for training; lower data.k_core")
    return (table.compact(), part) if mask.all() else (table.filter(mask), part[mask])
