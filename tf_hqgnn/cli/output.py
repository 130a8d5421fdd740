"""Prints the answers of a model: a table or lines for a reader, or one JSON object for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tf_hqgnn.cli.terminal import plain, print_table

if TYPE_CHECKING:
    from tf_hqgnn.beam.batch import BatchReport
    from tf_hqgnn.serving.answers import Recommendation
    from tf_hqgnn.serving.pair_answers import Explanation, Scores, SimilarUsers


def print_progress(line: str) -> None:
    """Print a line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def print_answer(
    answer: Recommendation,
    user: str | None,
    num_taken: int,
    titles: dict[str, str],
    as_json: bool,
    features: Sequence[str] = (),
) -> None:
    """Prints items with their scores for `user`, or, if None, for a user of `features`, or `num_taken` items."""
    if as_json:
        rows: list[dict[str, Any]] = []
        for score, item_id in zip(answer.scores, answer.item_ids):
            row: dict[str, Any] = {"item_id": item_id, "score": float(score)}
            rows.append(row | ({"title": titles[item_id]} if item_id in titles else {}))
        print(json.dumps({"user_id": user, "known_user": bool(answer.known_user), "items": rows}))
        return
    from rich.table import Table

    nameless = f"a user with {', '.join(features)}" if features else f"a history of {num_taken} items"
    who = nameless if user is None else f"user {user}"
    known = "" if answer.known_user else " (unknown: popular items)"
    table = Table()
    for column in ("", "item", "title", "score") if titles else ("", "item", "score"):
        table.add_column(column, justify="right" if column in ("", "score") else "left")
    for rank, (score, item_id) in enumerate(zip(answer.scores, answer.item_ids), 1):
        cells = (item_id, titles.get(item_id, "")) if titles else (item_id,)
        table.add_row(str(rank), *map(plain, cells), f"{score:.4f}")
    print_table(f"{who}{known}", table)


def print_scores(answer: Scores, item_ids: Sequence[str], titles: dict[str, str], as_json: bool) -> None:
    """Print the scores of a user in the order of `item_ids`."""
    scores = [float(score) for score in answer.scores]
    known_items = [bool(known) for known in answer.known_items]
    if as_json:
        rows: list[dict[str, Any]] = []
        for item_id, score, known in zip(item_ids, scores, known_items):
            row: dict[str, Any] = {"item_id": item_id, "score": score, "known_item": known}
            rows.append(row | ({"title": titles[item_id]} if item_id in titles else {}))
        print(json.dumps({"user_id": answer.user_id, "known_user": answer.known_user, "items": rows}))
        return
    from rich.table import Table

    table = Table()
    for column in ("item", "title", "score") if titles else ("item", "score"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for item_id, score, known in zip(item_ids, scores, known_items):
        cells = (item_id, titles.get(item_id, "")) if titles else (item_id,)
        table.add_row(*map(plain, cells), f"{score:.4f}" if known and answer.known_user else "unknown")
    print_table(f"user {answer.user_id}{'' if answer.known_user else ' (unknown)'}", table)


def print_explanation(answer: Explanation, titles: dict[str, str], as_json: bool) -> None:
    """Print the items of a user's history that contribute most to the score of an item."""
    found = [(item_id, float(share)) for item_id, share in zip(answer.item_ids, answer.shares)]
    if as_json:
        rows: list[dict[str, Any]] = []
        for item_id, share in found:
            row: dict[str, Any] = {"item_id": item_id, "share": share}
            rows.append(row | ({"title": titles[item_id]} if item_id in titles else {}))
        known = {"known_user": answer.known_user, "known_item": answer.known_item}
        numbers = {"score": answer.score, "rest": answer.rest}
        print(json.dumps({"user_id": answer.user_id, "item_id": answer.item_id, **known, **numbers, "history": rows}))
        return
    from rich.table import Table

    table = Table()
    for column in ("item", "title", "share") if titles else ("item", "share"):
        table.add_column(column, justify="right" if column == "share" else "left")
    for item_id, share in found:
        cells = (item_id, titles.get(item_id, "")) if titles else (item_id,)
        table.add_row(*map(plain, cells), f"{share:.4f}")
    unknown = [name for name, known in (("user", answer.known_user), ("item", answer.known_item)) if not known]
    reason = (
        f" (unknown {' and '.join(unknown)})"
        if unknown
        else f", of which the history doesn't explain {answer.rest:.4f}"
    )
    print_table(f"user {answer.user_id}, item {answer.item_id}: score {answer.score:.4f}{reason}", table)


def print_similar_users(answer: SimilarUsers, as_json: bool) -> None:
    """Print the users who are nearest to a user, with their cosines."""
    found = [(user_id, float(score)) for user_id, score in zip(answer.user_ids, answer.scores)]
    if as_json:
        rows = [{"user_id": user_id, "score": score} for user_id, score in found]
        print(json.dumps({"user_id": answer.user_id, "known_user": answer.known_user, "users": rows}))
        return
    from rich.table import Table

    table = Table()
    for column in ("", "user", "cosine"):
        table.add_column(column, justify="left" if column == "user" else "right")
    for rank, (user_id, score) in enumerate(found, 1):
        table.add_row(str(rank), plain(user_id), f"{score:.4f}")
    print_table(f"user {answer.user_id}{'' if answer.known_user else ' (unknown)'}", table)


def print_batch(report: BatchReport, as_json: bool) -> None:
    """Print how many users of a batch got an answer, and why others did not."""
    if as_json:
        print(json.dumps(vars(report)))
        return
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in report.rejected.items())
    print(
        f"{report.users_in:,} users in, {report.rows:,} answered ({report.rows - report.known_users:,} unknown ones "
        f"with popular items), {sum(report.rejected.values()):,} rejected{f': {rejected}' if rejected else ''}"
    )
    print(f"{len(report.files)} files in {report.seconds:.1f} s, {report.files[0]} the first")
