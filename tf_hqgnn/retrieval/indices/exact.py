"""The exact index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.retrieval.indices.index import INDICES, Index

if TYPE_CHECKING:
    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.retrieval.item_filter import ItemFilter
    from tf_hqgnn.retrieval.queries import Queries
    from tf_hqgnn.retrieval.rows import RowTable
    from tf_hqgnn.retrieval.top_k import TopK


@INDICES.register("exact")
class ExactIndex(Index):
    """Scores every item (`retrieval.exact.ExactTopK`).

    Example:
      >>> ExactIndex.any_device
      True
    """

    def build(
        self,
        rows: RowTable,
        export: ExportConfig,
        retrieval: RetrievalConfig,
        item_filter: ItemFilter,
        sample: Queries | None,
    ) -> TopK:
        """See `Index`; `export.jit_compile` is read."""
        from tf_hqgnn.retrieval.exact import ExactTopK

        return ExactTopK(rows, export.jit_compile)
