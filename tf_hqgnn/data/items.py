"""What is known of the items: titles, categories, availability."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.attribute_rows import Attributes, Part, checked_rows, file_parts, table_part
from tf_hqgnn.data.chunks import ITEM_COLUMNS
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.input_file import paths_of
from tf_hqgnn.data.timestamps import NUMBER
from tf_hqgnn.types import BoolArray, InputError, Int64Array, ObjectArray

_EXPECTED = "item_id and any of title, category, available"
# An item of which nothing is said is available.
_AVAILABLE = {"true": True, "t": True, "yes": True, "y": True, "false": False, "f": False, "no": False, "n": False}
# As programs write that nothing is said.
_AVAILABLE |= dict.fromkeys(("", "nan", "none", "null", "na", "n/a"), True)


@dataclass(frozen=True)
class ItemCatalogue:
    """Items in the order of their file.

    Args:
      item_ids: object [n] of str, distinct.
      title: object [n] of str, "" where an item has none; None where the file has no such column.
      category: object [n] of str, likewise; `|` separates several categories of an item.
      available: bool [n], likewise.
      features: of any items; None where the file's features aren't asked for.
    """

    item_ids: ObjectArray
    title: ObjectArray | None = None
    category: ObjectArray | None = None
    available: BoolArray | None = None
    features: FeatureTable | None = None

    def align(self, item_ids: ObjectArray) -> ItemCatalogue:
        """The catalogue of exactly `item_ids`, in that order; an unknown item has "" and is available.

        >>> catalogue = ItemCatalogue(np.array(["b"], object), title=np.array(["Babe"], object))
        >>> catalogue.align(np.array(["a", "b"], object)).title.tolist()
        ['', 'Babe']
        """
        rows = rows_of(self.item_ids, item_ids)
        return ItemCatalogue(
            item_ids,
            None if self.title is None else np.append(self.title, "")[rows],
            None if self.category is None else np.append(self.category, "")[rows],
            None if self.available is None else np.append(self.available, True)[rows],
            self.features,
        )

    def over(self, other: ItemCatalogue) -> ItemCatalogue:
        """Both catalogues as one; what this one says of an item counts, and its columns stay empty for the others.

        >>> new, old = ItemCatalogue(np.array(["b"], object)), ItemCatalogue(np.array(["a", "b"], object))
        >>> new.over(old).item_ids.tolist()
        ['b', 'a']
        """
        others = rows_of(self.item_ids, other.item_ids) < 0
        ids = np.concatenate([self.item_ids, other.item_ids[others]])
        mine, theirs = self.align(ids), other.align(ids)
        own = np.arange(len(ids)) < len(self.item_ids)
        columns = []
        for name in ("title", "category", "available"):
            one, two = getattr(mine, name), getattr(theirs, name)
            columns.append(one if two is None else two if one is None else np.where(own, one, two))
        features = self.features
        if other.features is not None:
            features = other.features if features is None else features.over(other.features)
        title, category, available = columns
        return ItemCatalogue(ids, title, category, available, features)


def rows_of(ids: ObjectArray, wanted: ObjectArray) -> Int64Array:
    """The places of `wanted` in the distinct `ids`, int64; -1 where it isn't there.

    >>> rows_of(np.array(["b", "a"], object), np.array(["a", "c"], object)).tolist()
    [1, -1]
    """
    place = {name: number for number, name in enumerate(ids)}
    return np.array([place.get(name, -1) for name in wanted], np.int64)


_ITEMS = Attributes(
    "item_id",
    "items",
    "data.items_path",
    _EXPECTED,
    pick=lambda names: [column for column in ITEM_COLUMNS if column in names],
    types=lambda column: ("strings", "integers", *(("booleans", "numbers") if column == "available" else ()), "nulls"),
    numbers=("available",),
)


def read_items(path: str | Path | Sequence[str | Path], names: Mapping[str, str] | None = None) -> ItemCatalogue:
    """Reads files with `item_id` and any of `title`, `category`, `available`; other columns are ignored.

    Args:
      path: text in the dialects and compressions of a log, Parquet, or a folder of such files. `available` is true,
        false, yes, no, a number that is 1 or 0, or empty (also nan, none, null, na, n/a), in any case; an item
        without it is available. A `category` such as `film|book` is two categories. Several paths, separated by commas
        or in a list, are joined by id; of a column that more than one has, the first file counts.
      names: what columns are called in files that don't have them under their own name, as `{"item_id": "sku"}`.

    Raises:
      InputError: The file is missing or empty, or a row has no id, an id that came before, another number of columns
        than the header, or isn't UTF-8. Always with the line.
    """
    what = _ITEMS._replace(names={name: other for name, other in (names or {}).items() if name in ITEM_COLUMNS})
    first, *others = (_catalogue(file_parts(one, what)) for one in paths_of(path))
    for other in others:
        first = first.over(other)
    return first


def items_of_batches(name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> ItemCatalogue:
    """Reads items from record batches, with the checks of `read_items`.

    Args:
      name: of the table, for messages.
      schema: which columns it has.
      batches: their values.

    Raises:
      InputError: A column is of a type that isn't read; a row has no id, or one that came before.
    """
    return _catalogue([table_part(name, schema, batches, _ITEMS)])


def _catalogue(parts: Iterable[Part]) -> ItemCatalogue:
    columns: dict[str, list[str]] = {}
    available: list[bool] = []
    places: dict[str, str] = {}
    for part in parts:
        columns = columns or {name: [] for name in part.columns}
        if list(columns) != part.columns:
            raise InputError(
                f"{part.name}: columns {', '.join(part.columns)}; expected {', '.join(columns)}, as in the files "
                "before it"
            )
        for where, values in checked_rows(part, "item_id", places):
            for name in part.columns:
                columns[name].append(values[name])
            if "available" in values:
                available.append(_is_available(values["available"], where))
    return ItemCatalogue(
        np.array(columns["item_id"], object),
        np.array(columns["title"], object) if "title" in columns else None,
        np.array(columns["category"], object) if "category" in columns else None,
        np.array(available, bool) if "available" in columns else None,
    )


def _is_available(text: str, where: str) -> bool:
    plain = text.strip().lower()
    if plain in _AVAILABLE:
        return _AVAILABLE[plain]
    number = float(plain) if re.fullmatch(NUMBER, plain, re.ASCII) else -1.0
    if number not in (0.0, 1.0):
        raise InputError(f"{where}: available is {text!r}; expected true, false, 1, 0, yes, no or nothing")
    return bool(number)
