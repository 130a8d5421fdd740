"""Chooses the index that a model is served with."""

from __future__ import annotations

import logging
from typing import Literal

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.extras import how_to_install, missing, require
from tf_hqgnn.retrieval.indices.exact import ExactIndex
from tf_hqgnn.retrieval.indices.index import INDICES, EarlierIndex, Index
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.top_k import TopK

Device = Literal["any", "cpu"]
log = logging.getLogger(__name__)


def check_index(retrieval: RetrievalConfig) -> None:
    """Refuses an index that the settings ask for and whose extra isn't installed; call it before there is work to lose.

    Raises:
      InputError: It names the extra, or the platform that has no such package.
    """
    index = _asked_for(retrieval)
    if index is not None and index.extra is not None:
        require(index.extra, f"retrieval.index {index.name}")


def choose_index(
    rows: RowTable,
    device: Device,
    export: ExportConfig,
    retrieval: RetrievalConfig,
    item_filter: ItemFilter,
    sample: Queries | None = None,
    earlier: EarlierIndex | None = None,
) -> TopK:
    """Builds the index that suits the settings, the catalogue's size and the device.

    The exact index stands in for an index that the device can't run, and for one that `auto` would take but that isn't
    installed.

    Args:
      rows: the embeddings of the items.
      device: "any" allows only operations that a GPU and a stock TF Serving have; "cpu" allows all.
      export: settings of the export.
      retrieval: settings of the retrieval; `index` overrides the choice on "cpu".
      item_filter: which items may come back; the others don't count for the catalogue's size.
      sample: queries by which an index may be tuned.
      earlier: the index of the version that this one follows, of which `Index.update` keeps what it can; None builds
        all anew.

    Raises:
      InputError: The settings ask for an index that isn't installed, or its sizes don't fit the catalogue.
    """
    num_items = int(item_filter.available.sum()) if item_filter.blocks_some else rows.num_rows
    index = suitable_index(num_items, device, retrieval)
    if earlier is None:
        return index.build(rows, export, retrieval, item_filter, sample)
    return index.update(earlier, rows, export, retrieval, item_filter, sample)


def suitable_index(num_items: int, device: Device, retrieval: RetrievalConfig) -> Index:
    """Name the index that `choose_index` builds.

    Args:
      num_items: how many items may come back.
      device: as of `choose_index`.
      retrieval: as of `choose_index`.

    Raises:
      InputError: The settings ask for an index that isn't installed.

    Example:
      >>> suitable_index(10, "any", RetrievalConfig()).name
      'exact'
    """
    check_index(retrieval)
    index = _asked_for(retrieval) or _suited_to(num_items)
    if device == "any" and not index.any_device:
        index = ExactIndex()
    if index.extra is not None and missing(index.extra):
        log.warning(
            "the exact index takes the place of %s, which isn't installed: %s", index.name, how_to_install(index.extra)
        )
        index = ExactIndex()
    return index


def _asked_for(retrieval: RetrievalConfig) -> Index | None:
    """The index that the settings name, or that a setting of its own implies; None leaves the choice open."""
    for name in INDICES.names():
        index = INDICES[name]()
        implied = any(getattr(retrieval, setting) is not None for setting in index.implied_by)
        if retrieval.index == name or (retrieval.is_auto and implied):
            return index
    return None


def _suited_to(num_items: int) -> Index:
    """The index that `auto` takes for a catalogue of that many items."""
    suited = [INDICES[name]() for name in INDICES.names() if num_items >= INDICES[name].auto_from]
    return max(suited, key=lambda index: index.auto_from)
