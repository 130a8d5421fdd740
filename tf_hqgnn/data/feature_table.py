"""What is known of users or items besides their interactions, as text in columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.parquet_file import read_parquet_table
from tf_hqgnn.types import BoolArray, Int64Array, ObjectArray

# How a column is read; a setting such as `title:text` names one, and else the values decide.
KINDS = ("number", "category", "list", "text")
_ID = "id"


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of users or items, one row each.

    Args:
      ids: object [n] of str, distinct.
      columns: by name, object [n] of str; "" where nothing is known. Lists are separated by `|`.
      kinds: by name, one of `KINDS` where a setting has named it.

    Example:
      >>> table = FeatureTable(np.array(["a", "b"], object), {"year": np.array(["1995", ""], object)})
      >>> table.align(np.array(["b", "a", "new"], object)).columns["year"].tolist(), table.known().tolist()
      (['', '1995', ''], [True, False])
    """

    ids: ObjectArray
    columns: Mapping[str, ObjectArray]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def align(self, ids: ObjectArray) -> FeatureTable:
        """Returns the rows of `ids` in that order; an id that isn't here has nothing known."""
        place = {name: row for row, name in enumerate(self.ids)}
        rows = np.array([place.get(name, -1) for name in ids], np.int64)
        return FeatureTable(
            ids, {name: np.append(values, "")[rows] for name, values in self.columns.items()}, self.kinds
        )

    def take(self, rows: BoolArray | Int64Array) -> FeatureTable:
        """Returns some of the rows."""
        return FeatureTable(self.ids[rows], {name: values[rows] for name, values in self.columns.items()}, self.kinds)

    def over(self, other: FeatureTable) -> FeatureTable:
        """Joins two tables by id; `other` fills the gaps of this one.

        Example:
          >>> ids = np.array(["a"], object)
          >>> year, genre = (FeatureTable(ids, {name: np.array(["x"], object)}) for name in ("year", "genre"))
          >>> sorted(year.over(genre).columns)
          ['genre', 'year']
        """
        mine = set(self.ids)
        ids = np.concatenate([self.ids, np.array([one for one in other.ids if one not in mine], object)])
        first, second = self.align(ids).columns, other.align(ids).columns
        columns = {name: first.get(name, second.get(name)) for name in (*first, *second)}
        for name in set(first) & set(second):
            columns[name] = np.where(first[name] == "", second[name], first[name])
        return FeatureTable(
            ids, {name: values for name, values in columns.items() if values is not None}, {**other.kinds, **self.kinds}
        )

    def known(self) -> BoolArray:
        """Returns bool [n]: whether anything is known of each row."""
        found = np.zeros(len(self.ids), bool)
        for values in self.columns.values():
            found |= values != ""
        return found

    def pairs(self) -> ObjectArray:
        """Returns object [n, columns] of `name=value`, "" where nothing is known: what `recommend_for_features` takes.

        Example:
          >>> FeatureTable(np.array(["a"], object), {"year": np.array(["1995"], object)}).pairs().tolist()
          [['year=1995']]
        """
        pairs = np.full((len(self.ids), len(self.columns)), "", object)
        for place, (name, values) in enumerate(self.columns.items()):
            pairs[:, place] = [f"{name}={value}" if value else "" for value in values]
        return pairs

    def save(self, path: Path) -> None:
        """Writes a Parquet file."""
        table = pa.table({_ID: pa.array(self.ids, pa.utf8())})
        for name, values in self.columns.items():
            table = table.append_column(pa.field(f"={name}", pa.utf8()), pa.array(values, pa.utf8()))
        pq.write_table(table.replace_schema_metadata({"kinds": json.dumps(dict(self.kinds))}), path)

    @staticmethod
    def load(path: Path) -> FeatureTable:
        """Reads what `save` wrote.

        Raises:
          InputError: The file is missing or damaged.
        """
        table = read_parquet_table(path)
        columns = {name[1:]: table[name].to_numpy() for name in table.column_names if name != _ID}
        kinds = json.loads((table.schema.metadata or {}).get(b"kinds", b"{}"))
        return FeatureTable(table[_ID].to_numpy(), columns, kinds)
