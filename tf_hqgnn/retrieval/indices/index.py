"""The interface of every index that settings can name, and the registry of indices.

Indices are settings, too: this module and those of the indices are imported without TensorFlow, which takes seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.retrieval.filters import ItemFilter
    from tf_hqgnn.retrieval.queries import Queries
    from tf_hqgnn.retrieval.rows import RowTable
    from tf_hqgnn.retrieval.top_k import TopK


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


INDICES: Registry[Index] = Registry("index", package="tf_hqgnn.retrieval.indices")
