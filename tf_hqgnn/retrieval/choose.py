"""Which index a model is served with."""

from __future__ import annotations

from typing import Literal

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.scann import BRUTE_FORCE_BELOW, ScannTopK
from tf_hqgnn.retrieval.top_k import TopK

Device = Literal["any", "cpu"]


def choose_index(
    rows: RowTable,
    device: Device,
    export: ExportConfig,
    retrieval: RetrievalConfig,
    item_filter: ItemFilter,
    sample: Queries | None = None,
) -> TopK:
    """The exact index where the model has to run on any device, or the catalogue is too small for another.

    Args:
      rows: the items.
      device: "any" has operations that a GPU and a stock TF Serving have; "cpu" may have ScaNN's.
      export: `jit_compile` is of the exact index.
      retrieval: `index` overrides the choice on "cpu".
      item_filter: what may come back; the others don't count for the catalogue's size.
      sample: queries by which ScaNN is tuned.

    Raises:
      ImportError: ScaNN is chosen and isn't installed.
      InputError: Its sizes don't fit the catalogue.
    """
    num_items = int(item_filter.available.sum()) if item_filter.blocks_some else rows.num_rows
    wanted = retrieval.index
    if wanted == "auto":
        wanted = "scann" if retrieval.num_leaves or num_items >= BRUTE_FORCE_BELOW else "exact"
    if device == "any" or wanted == "exact":
        return ExactTopK(rows, export.jit_compile)
    return ScannTopK(rows, retrieval, item_filter, sample)
