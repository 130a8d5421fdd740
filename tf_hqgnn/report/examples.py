"""Ten users: what they took, what they are recommended, and what of it was held out."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.graph.csr import select_rows
from tf_hqgnn.report.markup import name, paragraph, section, table, text
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import Int64Array, IntArray

_USERS, _SHOWN_HISTORY, _TOP = 10, 8, 10


def choose_users(run: RunDirectory) -> Int64Array:
    """int64, up to ten users from few to many training interactions, drawn by the seed.

    One of each tenth by degree of the users with a history and a validation target; without a validation split, of all
    with a history.
    """
    degree = run.graph.user_degree
    rows = np.flatnonzero(degree)
    if len(run.dataset.valid):
        judged = np.intersect1d(rows, run.dataset.valid.user_index)
        rows = judged if len(judged) else rows
    rows = rows[np.argsort(degree[rows], kind="stable")]
    rng = np.random.default_rng(run.config.seed)
    return np.array([rng.choice(part) for part in np.array_split(rows, _USERS) if len(part)], np.int64)


def examples(run: RunDirectory) -> str:
    """The section."""
    users = choose_users(run)
    tables = (run.user_embeddings, run.item_embeddings) if run.coded is None else run.coded.dequantize()
    top = rank(*tables, users, run.graph.masked(), _TOP, available=run.dataset.available)
    valid = run.dataset.valid.to_csr(run.dataset.num_users)
    parts = [
        _user(run, int(user), items[items >= 0], set(select_rows(valid, [user])[1].tolist()), place == len(users) // 2)
        for place, (user, items) in enumerate(zip(users, top))
    ]
    note = "Drawn by the seed, from few to many training interactions. "
    note += "Green rows are in the user's validation split." if len(run.dataset.valid) else ""
    return section(f"{len(users)} users", paragraph(note, soft=True), *parts)


def _user(run: RunDirectory, user: int, items: IntArray, held_out: set[int], is_open: bool) -> str:
    dataset = run.dataset
    history = _history(run, user)
    hits = [place for place, item in enumerate(items.tolist()) if item in held_out]
    known = f"{len(history):,} training item{'s' if len(history) != 1 else ''}"
    judged = f", {len(hits)} of {len(held_out)} held out in the top {_TOP}" if held_out else ""
    taken = " · ".join(_title(run, int(item)) for item in history[:_SHOWN_HISTORY])
    more = f" and {len(history) - _SHOWN_HISTORY:,} more" if len(history) > _SHOWN_HISTORY else ""
    header = ["", *(["title"] if dataset.titles is not None else []), "item"]
    header += ["category"] if dataset.categories is not None else []
    header += ["held out"] if len(dataset.valid) else []
    rows = []
    for place, item in enumerate(items.tolist()):
        row = [str(place + 1)]
        if dataset.titles is not None:
            row.append(name(dataset.titles[item]))
        row.append(name(dataset.item_ids[item]))
        if dataset.categories is not None:
            row.append(name(dataset.categories[item]))
        if len(dataset.valid):
            row.append("✓" if item in held_out else "")
        rows.append(row)
    return (
        f"<details{' open' if is_open else ''}><summary>user <b>{name(dataset.user_ids[user])}</b>: "
        f"{text(known + judged)}</summary>\n"
        + paragraph(f"<b>{'Last took' if dataset.train.timestamp is not None else 'Took'}</b> {taken}{more}")
        + table(header, rows, numbers_from=len(header), hits=hits)
        + "</details>\n"
    )


def _history(run: RunDirectory, user: int) -> IntArray:
    """The user's training items, latest first; by popularity where the log has no time."""
    train = run.dataset.train
    rows = np.flatnonzero(train.user_index == user)
    items = train.item_index[rows]
    latest = run.graph.item_degree[items] if train.timestamp is None else train.timestamp[rows]
    ordered: IntArray = items[np.lexsort((items, -latest.astype(np.float64)))]
    return ordered


def _title(run: RunDirectory, item: int) -> str:
    """The title, or the id where there is none."""
    title = "" if run.dataset.titles is None else run.dataset.titles[item]
    return name(title or run.dataset.item_ids[item])
