"""From the settings to the data of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.anomalies import check_time_units
from tf_hqgnn.data.interactions import InteractionTable, read_spans, read_table
from tf_hqgnn.data.items import ItemCatalogue, read_items
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
from tf_hqgnn.types import FloatArray, InputError, IntArray, Interactions, concatenate

Parts = npt.NDArray[np.int8]


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
    spans = () if config.path is None else resolve_spans(config.path, config.num_spans)
    others = (config.train_path, config.valid_path, config.test_path, config.items_path)
    inputs = [span.path for span in spans] + [Path(path) for path in others if path is not None]
    with BadRowLog(config.max_bad_rows, config.quarantine_path, inputs) as log:
        if spans:
            limits = config.max_growth, config.max_id_drift
            table, part = split_log(read_spans(spans, config.format, log, config.min_rating, *limits), config, seed)
        elif config.train_path is not None and config.test_path is not None:
            table, part = _read_given(config.train_path, config.test_path, config, log, seed)
        else:
            raise InputError("no input: set data.path, or data.train_path with data.test_path")
    items = None if config.items_path is None else read_items(config.items_path)
    return make_dataset(table, part, items, f"{config.items_path}", "check data.items_path")


def split_log(table: InteractionTable, config: DataConfig, seed: int) -> tuple[InteractionTable, Parts]:
    """The table without what the k-core leaves out, and the part of each interaction by `config.split`."""
    table = k_core(table, config.k_core)
    return table, _split(table, config, seed)


def join_valid(
    table: InteractionTable, valid: InteractionTable, config: DataConfig, log: BadRowLog
) -> tuple[InteractionTable, Parts]:
    """The union of two tables, whose second one is for validation but for what is in the first one, too."""
    table, row = union(table, valid, log)
    return _in_k_core(table, np.where(row >= 0, TRAIN, VALID).astype(np.int8), config.k_core)


def make_dataset(
    table: InteractionTable,
    part: Parts,
    items: ItemCatalogue | None = None,
    items_name: str = "items",
    advice: str = "check the ids",
) -> SplitDataset:
    """The dataset of interactions and their parts, with what is known of the items.

    Args:
      table: the interactions.
      part: int8 [n], of each.
      items: of any items; at least one of them must be in the table.
      items_name: what messages call them.
      advice: what to do where none is.

    Raises:
      InputError: Nothing is left to train on, or none of `items` is in the table.
    """
    train, valid, test = divide(table.interactions, part)
    if not len(train):
        raise InputError("no interaction is left for training; check data.split and data.k_core")
    dataset = SplitDataset(table.user_ids, table.item_ids, train, valid, test, report=table.report)
    if items is None:
        return dataset
    if not set(items.item_ids).intersection(dataset.item_ids):
        raise InputError(
            f"{items_name}: none of its {len(items.item_ids):,} items is among the {dataset.num_items:,} of the "
            f"interactions (such as {dataset.item_ids[0]!r}); expected the same item_id in both, {advice}"
        )
    aligned = items.align(dataset.item_ids)
    return replace(dataset, titles=aligned.title, categories=aligned.category, available=aligned.available)


def extend_dataset(
    dataset: SplitDataset, new: InteractionTable, items: ItemCatalogue | None, log: BadRowLog
) -> SplitDataset:
    """The dataset with the interactions of a later log added to those for training.

    What is in a part already stays there. What `items` says of an item comes before what was known of it.

    Args:
      dataset: what a model was made from.
      new: the later log.
      items: of any items.
      log: the bad rows of the later log.

    Raises:
      InputError: The timestamps of the two are in different units.
    """
    everything = concatenate(dataset.train, dataset.valid, dataset.test)
    part = np.repeat(
        np.array([TRAIN, VALID, TEST], np.int8), [len(dataset.train), len(dataset.valid), len(dataset.test)]
    )
    order = np.lexsort((everything.item_index, everything.user_index))
    report = ReadReport(len(part), len(part), 0, 0, files=dataset.report.files)
    old = InteractionTable(dataset.user_ids, dataset.item_ids, everything.take(order), None, None, report)
    table, row = union(old, new, log)
    before = ItemCatalogue(dataset.item_ids, dataset.titles, dataset.categories, dataset.available)
    about = before if items is None else items.over(before)
    return make_dataset(table, np.where(row >= 0, part[order][row], TRAIN).astype(np.int8), about)


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

    def read(path: str) -> InteractionTable:
        return read_table(path, config.format, log, config.min_rating)

    known = read(train_path)
    if config.valid_path is None:
        part = split_random(known, config.split.valid, 0.0, seed)
    else:
        known, row_in_train = union(known, read(config.valid_path), log)
        part = np.where(row_in_train >= 0, TRAIN, VALID)
    table, row_in_known = union(known, read(test_path), log)
    part = np.where(row_in_known >= 0, part[row_in_known], TEST).astype(np.int8)
    return _in_k_core(table, part, config.k_core)


def _in_k_core(table: InteractionTable, part: Parts, k: int) -> tuple[InteractionTable, Parts]:
    mask = k_core_mask(table.interactions, k)
    if not (part[mask] == TRAIN).any():
        raise InputError(f"k_core={k}: no interaction is left for training; lower data.k_core")
    return (table, part) if mask.all() else (table.filter(mask), part[mask])


def union(train: InteractionTable, test: InteractionTable, log: BadRowLog) -> tuple[InteractionTable, IntArray]:
    """The pairs of both tables, and the row in `train` of each, -1 where it is of `test` alone."""
    check_time_units(train.report.files + test.report.files)
    user_ids = np.unique(np.concatenate([train.user_ids, test.user_ids]))
    item_ids = np.unique(np.concatenate([train.item_ids, test.item_ids]))
    user_index, item_index = (
        np.concatenate(
            [
                np.searchsorted(ids, train_ids)[train_index],
                np.searchsorted(ids, test_ids)[test_index],
            ]
        ).astype(np.int32)
        for ids, train_ids, train_index, test_ids, test_index in (
            (user_ids, train.user_ids, train.interactions.user_index, test.user_ids, test.interactions.user_index),
            (item_ids, train.item_ids, train.interactions.item_index, test.item_ids, test.interactions.item_index),
        )
    )
    # Of a pair in both files np.unique keeps the first row, which is that of the training file.
    _, rows = np.unique(user_index.astype(np.int64) * len(item_ids) + item_index, return_index=True)
    repeated = len(user_index) - len(rows)
    report = ReadReport(
        train.report.rows_read + test.report.rows_read,
        len(rows),
        train.report.duplicate + test.report.duplicate + repeated,
        train.report.filtered + test.report.filtered,
        log.bad(),
        train.report.files + test.report.files,
        _range(train.report.ratings, test.report.ratings),
        tuple(dict.fromkeys(train.report.odd_ids + test.report.odd_ids)),
    )
    table = InteractionTable(
        user_ids,
        item_ids,
        Interactions(
            user_index[rows],
            item_index[rows],
            _join(train.interactions.timestamp, test.interactions.timestamp, rows),
        ),
        _join(train.rating, test.rating, rows),
        _join(train.weight, test.weight, rows),
        report,
    )
    return table, np.where(rows < len(train), rows, -1)


def _range(*ranges: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range of several, None where none is known."""
    known = [limits for limits in ranges if limits is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _join(train: FloatArray | None, test: FloatArray | None, rows: IntArray) -> FloatArray | None:
    """A column of both files; None unless both have it."""
    return None if train is None or test is None else np.concatenate([train, test])[rows]
