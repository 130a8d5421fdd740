"""The model that was blessed last, ranked on today's test split: the comparison that no change of data can spoil."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.data.items import rows_of
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.metrics import user_metrics
from tf_hqgnn.export.layout import EXACT_MODEL, SAVED_MODEL_FILE
from tf_hqgnn.graph.csr import CSR, keep_entries, rows_of_entries, select_rows
from tf_hqgnn.runs.trained_state import TrainedState, judged_model_path
from tf_hqgnn.tfx.saved_model_ranking import Recommend, load_recommend, rank_items
from tf_hqgnn.tfx.slices import make_slices, slice_relevant
from tf_hqgnn.types import Int32Array, IntArray, Interactions, concatenate

_K = 20


@dataclass(frozen=True)
class Difference:
    """Two models on the same users of one slice.

    Args:
      name: of the slice.
      num_users: with a relevant item in it.
      ndcg: NDCG@20 of the candidate; 0 without any user, likewise the others.
      recall: Recall@20 of the candidate.
      baseline_ndcg: of the model that was blessed last; None where there is none to compare with.
      baseline_recall: likewise.
      excess: NDCG@20 of the candidate less the share of the baseline's that is asked, mean over users.
      excess_error: standard error of that mean, of the users' differences: the same users are ranked by both.
    """

    name: str
    num_users: int
    ndcg: float
    recall: float
    baseline_ndcg: float | None = None
    baseline_recall: float | None = None
    excess: float = 0.0
    excess_error: float = 0.0


@dataclass(frozen=True)
class Rankings:
    """What candidate and baseline recommend.

    Args:
      users: int [B], rows of the dataset's users with a test item that can be compared.
      relevant: CSR over these, of rows of items.
      candidate: int32 [B, k].
      baseline: the same, or None.
    """

    users: IntArray
    relevant: CSR
    candidate: Int32Array
    baseline: Int32Array | None = None


def differences(
    rankings: Rankings, dataset: SplitDataset, item_degree: IntArray, max_drop: float, max_slice_drop: float
) -> list[Difference]:
    """Candidate and baseline on all users, first, and on every slice.

    Args:
      rankings: of both.
      dataset: of the candidate; its training interactions say what is cold.
      item_degree: int [I], training interactions of every item.
      max_drop: the share of the baseline's NDCG@20 that the candidate may lack overall.
      max_slice_drop: the same in a slice.
    """
    degree = np.bincount(dataset.train.user_index, minlength=dataset.num_users)[rankings.users]
    relevant = [("all users", rankings.relevant, max_drop)]
    relevant += [
        (one.name, slice_relevant(rankings.relevant, one), max_slice_drop) for one in make_slices(degree, item_degree)
    ]
    return [_difference(name, rankings, targets, dataset.num_items, drop) for name, targets, drop in relevant]


def _difference(name: str, rankings: Rankings, relevant: CSR, num_items: int, drop: float) -> Difference:
    here = np.flatnonzero(np.diff(relevant[0]))
    new = user_metrics(rankings.candidate, relevant, _K, num_items)
    if not len(here):
        return Difference(name, 0, 0.0, 0.0)
    ndcg, recall = (float(values[here].mean()) for values in (new.ndcg, new.recall))
    if rankings.baseline is None:
        return Difference(name, len(here), ndcg, recall)
    old = user_metrics(rankings.baseline, relevant, _K, num_items)
    excess = new.ndcg[here] - (1 - drop) * old.ndcg[here]
    return Difference(
        name=name,
        num_users=len(here),
        ndcg=ndcg,
        recall=recall,
        baseline_ndcg=float(old.ndcg[here].mean()),
        baseline_recall=float(old.recall[here].mean()),
        excess=float(excess.mean()),
        excess_error=float(excess.std(ddof=1) / np.sqrt(len(here))) if len(here) > 1 else 0.0,
    )


def rank_baseline(
    pointer: Mapping[str, Any],
    dataset: SplitDataset,
    candidate: Path,
    tops: Rankings,
    batch_size: int,
) -> tuple[Rankings | None, str]:
    """Ranks today's test users with the model that was blessed last, as it answers: it doesn't know today's new ids.

    That is the model that was judged then. After a refit on the whole log another one was pushed, which has learnt most
    of today's test split.

    What it has learnt from must not count. Where the split is by time, today's test interactions are later than all
    that it has seen. Where it is random, an old training interaction may be in today's test split; the old model
    never recommends it again, which is no fair miss, but its rows know it, which is no fair hit elsewhere. So every
    interaction that the old model was trained or validated on is left out of the comparison: as a relevant item, and
    as an answer of either model. So is every item that one of the two can't return, because it was out of stock when
    that model was made: the two are compared on what is available now and was then.

    Args:
      pointer: as `model_store.read_pointer` gives it.
      dataset: of the candidate.
      candidate: its exact SavedModel; asked again for the users of whom interactions are left out.
      tops: the test users, their relevant items and what the candidate recommends.
      batch_size: users in one request.

    Returns:
      The rankings that can be compared, or None; and in words what they are, or why there are none.
    """
    state_path = pointer.get("state")
    # A store of version 0.1 has no model that was judged apart from the one that was pushed.
    judged = judged_model_path(Path(state_path or ""))
    path = judged if state_path and judged.is_dir() else Path(pointer["models"][EXACT_MODEL])
    if not (path / SAVED_MODEL_FILE).is_file():
        return None, f"the last blessed model is no longer at {path}"
    if not state_path or not Path(state_path).is_dir():
        return None, "the model store doesn't say what the last blessed model learnt from"
    try:
        state = TrainedState.load(Path(state_path))
        old = (state.held_out or state).dataset
        _, recommend_old = load_recommend(path)
    except ValueError as error:
        return None, f"the last blessed model can't be loaded: {error}"
    # A model leaves out by itself what it was trained on, so that needn't be in any request.
    trained, chosen_by = (_in_rows_of(dataset, old, part) for part in (old.train, old.valid))
    learnt = _csr(dataset, tops.users, trained, chosen_by)
    fresh = _without(tops.relevant, learnt, dataset.num_items)
    left_out = len(tops.relevant[1]) - len(fresh[1])
    sold_out, restocked = _stock_changes(dataset, old)
    fresh = keep_entries(fresh, ~np.isin(fresh[1], restocked))
    compared = np.flatnonzero(np.diff(fresh[0]))
    if not len(compared):
        return None, "the last blessed model learnt from, or can't return, every interaction of today's test split"
    users, relevant, top = tops.users[compared], select_rows(fresh, compared), tops.candidate[compared]
    k = top.shape[1]

    def ask(recommend: Recommend, rows: IntArray, excluded: CSR, allow_unknown: bool) -> Int32Array:
        ids, wanted = dataset.user_ids[users[rows]], select_rows(excluded, rows)
        return rank_items(recommend, ids, wanted, dataset.item_ids, k, batch_size, allow_unknown)

    # The candidate recommended without knowing what the old model learnt from.
    repeated = np.flatnonzero((np.diff(tops.relevant[0])[compared] > np.diff(relevant[0])) | bool(len(restocked)))
    if len(repeated):
        _, recommend = load_recommend(candidate)
        excluded = _with_items(_csr(dataset, users, dataset.valid, trained, chosen_by), restocked)
        top[repeated] = ask(recommend, repeated, excluded, False)
    excluded = _csr(dataset, users, dataset.train, dataset.valid, chosen_by)
    excluded = _with_items(_without(excluded, _csr(dataset, users, trained), dataset.num_items), sold_out)
    bottom = ask(recommend_old, np.arange(len(users)), excluded, True)
    note = f"; {left_out:,} test interactions that it learnt from are left out" if left_out else ""
    return Rankings(users, relevant, top, bottom), f"re-evaluated on today's test split, {len(users):,} users{note}"


def _stock_changes(dataset: SplitDataset, old: SplitDataset) -> tuple[IntArray, IntArray]:
    """Rows of today's items: those available then and not now, and those available now and not then."""
    every = np.ones(dataset.num_items, bool)
    now, then = every if dataset.available is None else dataset.available, every.copy()
    if old.available is not None:
        rows = rows_of(dataset.item_ids, old.item_ids[~old.available])
        then[rows[rows >= 0]] = False
    return np.flatnonzero(then & ~now), np.flatnonzero(now & ~then)


def _with_items(csr: CSR, items: IntArray) -> CSR:
    """The rows of a CSR, each with these items besides its own."""
    if not len(items):
        return csr
    rows = [np.concatenate([csr[1][start:stop], items]) for start, stop in zip(csr[0], csr[0][1:])]
    indptr = csr[0] + len(items) * np.arange(len(csr[0]))
    return indptr, np.concatenate(rows) if rows else csr[1]


def _in_rows_of(dataset: SplitDataset, old: SplitDataset, part: Interactions) -> Interactions:
    """`part` of the old dataset in rows of `dataset`, which needn't know all of it."""
    users = rows_of(dataset.user_ids, old.user_ids)[part.user_index]
    items = rows_of(dataset.item_ids, old.item_ids)[part.item_index]
    known = (users >= 0) & (items >= 0)
    return Interactions(users[known].astype(np.int32), items[known].astype(np.int32))


def _csr(dataset: SplitDataset, users: IntArray, *parts: Interactions) -> CSR:
    """The items of these users in any of `parts`."""
    pairs = concatenate(*(Interactions(part.user_index, part.item_index) for part in parts))
    return select_rows(pairs.to_csr(dataset.num_users), users)


def _without(csr: CSR, other: CSR, num_items: int) -> CSR:
    """The entries of `csr` that aren't in `other`."""
    keys, others = (rows_of_entries(one) * num_items + one[1] for one in (csr, other))
    return keep_entries(csr, ~np.isin(keys, others))
