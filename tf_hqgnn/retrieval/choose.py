"""Which index a model is served with."""

from __future__ import annotations

import logging
from typing import Literal

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.extras import how_to_install, missing, require
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.scann import BRUTE_FORCE_BELOW, ScannTopK
from tf_hqgnn.retrieval.top_k import TopK

Device = Literal["any", "cpu"]
log = logging.getLogger(__name__)


def check_index(retrieval: RetrievalConfig) -> None:
    """Refuses settings that ask for ScaNN where it isn't installed; to be called before there is anything to lose.

    Raises:
      InputError: It names the extra, or the platform that has no ScaNN.
    """
    if _asks_for_scann(retrieval):
        require("scann", "retrieval.index scann")


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
      retrieval: `index` overrides the choice on "cpu". `auto` is exact where ScaNN isn't installed.
      item_filter: what may come back; the others don't count for the catalogue's size.
      sample: queries by which ScaNN is tuned.

    Raises:
      InputError: The settings ask for ScaNN, which isn't installed, or its sizes don't fit the catalogue.
    """
    check_index(retrieval)
    num_items = int(item_filter.available.sum()) if item_filter.blocks_some else rows.num_rows
    is_large = retrieval.index == "auto" and num_items >= BRUTE_FORCE_BELOW
    if device == "any" or not (_asks_for_scann(retrieval) or is_large):
        return ExactTopK(rows, export.jit_compile)
    if missing("scann"):
        log.warning("hqgnn_scann gets the exact index, since ScaNN is missing: %s", how_to_install("scann"))
        return ExactTopK(rows, export.jit_compile)
    return ScannTopK(rows, retrieval, item_filter, sample)


def _asks_for_scann(retrieval: RetrievalConfig) -> bool:
    return retrieval.index == "scann" or retrieval.num_leaves is not None
