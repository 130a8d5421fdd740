"""The interface of every index that settings can name, and the registry of indices.

Indices are settings, too: this module and those of the indices are imported without TensorFlow, which takes seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tf_hqgnn.types import Array, Registry

if TYPE_CHECKING:
    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.retrieval.item_filter import ItemFilter
    from tf_hqgnn.retrieval.queries import Queries
    from tf_hqgnn.retrieval.rows import RowTable
    from tf_hqgnn.retrieval.top_k import TopK


@dataclass(frozen=True, eq=False)
class EarlierIndex:
    """An index of a version of a model that another version follows, over the first rows of that one's table.

    Args:
      described: what `TopK.describe` said of it.
      num_rows: rows of its table. They are the first of the new one, and have the same values.
      has: whether it holds a variable, named by the attributes that lead there, with "/" between them.
      read: the value of such a variable.
    """

    described: Mapping[str, Any]
    num_rows: int
    has: Callable[[str], bool]
    read: Callable[[str], Array]


class Index(ABC):
    """What an index needs, when `retrieval.index: auto` takes it, and how it is built.

    An index is registered by `@INDICES.register(name)` in a module of this package, and then `retrieval.index` may name
    it.

    Attributes:
      name: the value of `retrieval.index`.
      extra: the extra of tf_hqgnn that it needs installed, None if none.
      any_device: whether it is made of TensorFlow's own operations, so that a GPU and a stock TF Serving can run it.
      settings: the settings of the section `retrieval` that this index reads and not every other.
      implied_by: those of `settings` that choose this index where `retrieval.index` is auto.
      auto_from: the number of items from which auto takes it; of several the one with the highest number.
    """

    name: ClassVar[str]
    extra: ClassVar[str | None] = None
    any_device: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ()
    implied_by: ClassVar[tuple[str, ...]] = ()
    auto_from: ClassVar[int] = 0

    @abstractmethod
    def build(
        self,
        rows: RowTable,
        export: ExportConfig,
        retrieval: RetrievalConfig,
        item_filter: ItemFilter,
        sample: Queries | None,
    ) -> TopK:
        """The index over item rows.

        Args:
          rows: the embeddings of the items.
          export: settings of the export.
          retrieval: settings of the retrieval.
          item_filter: which items may come back.
          sample: queries by which the index may be tuned, None if there are none.

        Raises:
          InputError: The settings don't fit the catalogue.
        """

    def update(
        self,
        earlier: EarlierIndex,
        rows: RowTable,
        export: ExportConfig,
        retrieval: RetrievalConfig,
        item_filter: ItemFilter,
        sample: Queries | None,
    ) -> TopK:
        """The index over rows of which an earlier one held the first; one that learns nothing is just built.

        Args:
          earlier: that index, which may be of another kind.
          rows: as of `build`, like all others.
          export: settings of the export.
          retrieval: settings of the retrieval.
          item_filter: which items may come back now: also those that have been withdrawn since, or have returned.
          sample: queries by which the index may be tuned again.
        """
        del earlier
        return self.build(rows, export, retrieval, item_filter, sample)


INDICES: Registry[Index] = Registry("index", package="tf_hqgnn.retrieval.indices")
