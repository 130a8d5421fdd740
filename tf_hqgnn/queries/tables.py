"""Answers as tables of pandas or polars, or as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tf_hqgnn.data.id_types import IdType
from tf_hqgnn.queries.arrays import as_objects
from tf_hqgnn.types import Array, ObjectArray


@dataclass(frozen=True)
class AnswerForm:
    """What answers look like.

    Args:
      user_id: type of the ids of users.
      item_id: type of the ids of items.
      library: `pandas` or `polars`, of which tables are made.
      titles: by the text of an item's id; None where no items were given.
    """

    user_id: IdType = field(default_factory=IdType)
    item_id: IdType = field(default_factory=IdType)
    library: Literal["pandas", "polars"] = "pandas"
    titles: Mapping[str, str] | None = None

    @property
    def id_types(self) -> dict[str, IdType]:
        """The types of ids by the names of their columns."""
        return {"user_id": self.user_id, "item_id": self.item_id}


class Answers:
    """Collects the answers of several calls.

    Args:
      form: what they look like.
      k: how many were asked for.
      column: what answers are, `item_id` or `user_id`.
    """

    def __init__(self, form: AnswerForm, k: int, column: Literal["item_id", "user_id"] = "item_id") -> None:
        self._form = form
        self._k = k
        self._column = column
        self._id_type = form.id_types[column]
        self._scores: list[Array] = []
        self._items: list[Array] = []
        self._counts: list[Array] = []
        self._known: list[Array] = []

    def add(self, outputs: dict[str, Array], known: str, name: str = "item_id") -> None:
        """Adds the outputs of a signature; only real answers are kept.

        Args:
          outputs: of the signature.
          known: the output that says who is known.
          name: the output that holds the ids.
        """
        counts = outputs["num_valid"]
        real = np.arange(outputs["score"].shape[1]) < counts[:, np.newaxis]
        self._scores.append(outputs["score"][real])
        self._items.append(outputs[name][real])
        self._counts.append(counts)
        self._known.append(outputs[known])

    def table(self, asked: Mapping[str, tuple[ObjectArray, IdType]]) -> Any:
        """A row for each answer; `asked` are the texts and the type of the column that says who asked."""
        ((name, (texts, id_type)),) = asked.items()
        counts, known = _joined(self._counts, np.int32), _joined(self._known, bool)
        item_texts = self._item_texts()
        rank = np.arange(len(item_texts)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        columns: dict[str, tuple[Array, IdType | None]] = {
            name: (np.repeat(decoded(texts, id_type), counts), id_type),
            "rank": (rank, None),
            self._column: (decoded(item_texts, self._id_type), self._id_type),
            "score": (_joined(self._scores, np.float32), None),
            "known": (np.repeat(known, counts), None),
        }
        return make_table(columns, self._form, item_texts if self._column == "item_id" else None)

    def arrays(self) -> tuple[Array, Array]:
        """`(scores, item_ids)` with a row for each question and k columns."""
        counts = _joined(self._counts, np.int32)
        real = np.arange(self._k) < counts[:, np.newaxis]
        items = decoded(self._item_texts(), self._id_type)
        scores = np.full(real.shape, -np.inf, np.float32)
        scores[real] = _joined(self._scores, np.float32)
        item_ids = np.full(real.shape, self._id_type.missing, items.dtype)
        item_ids[real] = items
        return scores, item_ids

    def _item_texts(self) -> ObjectArray:
        return as_objects([item.decode() for item in _joined(self._items, object)])


def make_table(
    columns: Mapping[str, tuple[Array, IdType | None]], form: AnswerForm, item_texts: ObjectArray | None = None
) -> Any:
    """A table of pandas or polars.

    Args:
      columns: by name, the values and, of ids, their type.
      form: says which library, and the titles.
      item_texts: ids as text of the items in the rows, for the column `title`; None leaves it out.
    """
    import narwhals as nw

    data = {name: values for name, (values, _) in columns.items()}
    if form.titles is not None and item_texts is not None:
        data["title"] = as_objects([form.titles.get(text, "") for text in item_texts])
    if form.library == "polars":
        # Polars wants lists where NumPy has objects, and can't tell a type where there are none.
        types = {name: _polars_type(values) for name, values in data.items()}
        lists = {name: values.tolist() if values.dtype == object else values for name, values in data.items()}
        return nw.from_dict(lists, schema=types, backend="polars").to_native()
    table = nw.from_dict(data, backend="pandas").to_native()
    for name, (values, id_type) in columns.items():
        if id_type is not None and id_type.pandas and (values.dtype != object or id_type.is_text):
            table[name] = table[name].astype(id_type.pandas)
    return table


def _polars_type(values: Array) -> Any:
    import narwhals as nw

    if values.dtype == object:
        return nw.Binary if len(values) and isinstance(values[0], bytes) else nw.String
    return {"bool": nw.Boolean}.get(values.dtype.name) or getattr(nw, values.dtype.name.title().replace("Ui", "UI"))


def decoded(texts: ObjectArray, id_type: IdType) -> Array:
    """Ids in their type; as text where one that was asked for can't be of that type, and isn't known therefore."""
    try:
        return id_type.decode(texts)
    except ValueError:
        return texts


def _joined(parts: list[Array], kind: Any) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
