"""Says which categories and items of a request the model doesn't know: it takes no notice of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tf_hqgnn.cli.terminal import printable
from tf_hqgnn.hints import did_you_mean

if TYPE_CHECKING:
    from tf_hqgnn.serving.answers import QueryClient

# What becomes of an item that the model doesn't know, by the option that names it.
_EFFECTS = {
    "--history": "it counts for nothing",
    "--exclude": "there is nothing to exclude",
    "--candidate": "it can't be recommended",
}


def tell_unknown(
    asked: QueryClient,
    model: Path | None,
    categories: Sequence[str],
    items: Mapping[str, Sequence[str]],
    is_empty: bool,
) -> None:
    """Print a line on standard error for each name in a request that the model doesn't know.

    A server says whether it knows an item, but not which categories there are, nor what name was meant.

    Args:
      asked: the server or the model.
      model: the folder of the model; None where a server was asked.
      categories: that were asked for; "" is any.
      items: ids of items, by the option that names them.
      is_empty: whether the answer has no items.
    """
    named = list(dict.fromkeys(item for option in items for item in items[option] if item))
    unknown = asked.unknown_items(named) if named else set()
    known_items: Sequence[str] = ()
    known_categories: set[str] | None = None
    if model is not None and (unknown or any(categories)):
        from tf_hqgnn.export.contents import read_contents

        contents = read_contents(model)
        known_items = list(contents.item_ids)
        known_categories = {
            name for text in (() if contents.item_categories is None else contents.item_categories)
            for name in str(text).split("|")
        }  # fmt: skip
    for category in filter(None, categories):
        if known_categories is None:
            if is_empty:
                _tell(f"there is nothing to recommend: perhaps the model has no category {category!r}")
        elif category not in known_categories:
            _tell(f"unknown category {category!r}{did_you_mean(category, known_categories - {''})}")
    for option, ids in items.items():
        for item in dict.fromkeys(ids):
            if item in unknown:
                _tell(f"unknown item {item!r} in {option}: {_EFFECTS[option]}{did_you_mean(item, known_items)}")


def tell_unknown_features(asked: QueryClient, features: Sequence[str]) -> None:
    """Print a line on standard error for each feature of a user that the model doesn't know, by name or by value.

    Args:
      asked: the server or the model, which is asked once more, about each feature by itself.
      features: as `age=24`.
    """
    alone = asked.recommend_for_features([[one] for one in features], k=1)
    for feature, answer in zip(features, alone):
        if not answer.known_user:
            _tell(f"unknown feature {feature!r}: the model knows no such name or value, so it counts for nothing")


def _tell(line: str) -> None:
    print(f"tf-hqgnn: {printable(line)}", file=sys.stderr)
