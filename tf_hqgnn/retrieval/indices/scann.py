"""ScaNN's index."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.retrieval.indices.index import INDICES, EarlierIndex, Index

if TYPE_CHECKING:
    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.retrieval.item_filter import ItemFilter
    from tf_hqgnn.retrieval.queries import Queries
    from tf_hqgnn.retrieval.rows import RowTable
    from tf_hqgnn.retrieval.top_k import TopK

# ScaNN's own advice: below this many points brute force wins, and hashes need as many to be trained on.
BRUTE_FORCE_BELOW = 20_000


@INDICES.register("scann")
class ScannIndex(Index):
    """Scores the items of the most promising leaves (`retrieval.scann.ScannTopK`); for CPUs only.

    Example:
      >>> ScannIndex.extra, ScannIndex.any_device
      ('scann', False)
    """

    extra: ClassVar[str | None] = "scann"
    any_device: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = ("num_leaves", "num_leaves_to_search", "reorder")
    implied_by: ClassVar[tuple[str, ...]] = ("num_leaves",)
    auto_from: ClassVar[int] = BRUTE_FORCE_BELOW

    def build(
        self,
        rows: RowTable,
        export: ExportConfig,
        retrieval: RetrievalConfig,
        item_filter: ItemFilter,
        sample: Queries | None,
    ) -> TopK:
        """See `Index`."""
        from tf_hqgnn.retrieval.scann import ScannTopK

        return ScannTopK(rows, retrieval, item_filter, sample)

    def update(
        self,
        earlier: EarlierIndex,
        rows: RowTable,
        export: ExportConfig,
        retrieval: RetrievalConfig,
        item_filter: ItemFilter,
        sample: Queries | None,
    ) -> TopK:
        """See `Index`; the leaves are kept, and the new rows are assigned to them."""
        from tf_hqgnn.retrieval.scann import ScannTopK

        return ScannTopK(rows, retrieval, item_filter, sample, earlier)
