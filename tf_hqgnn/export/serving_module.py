"""From a bundle to the module that answers: the one that is exported, and the one that answers in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.export.layout import SCANN_MODEL, ModelSettings
from tf_hqgnn.export.module import ServingModule
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.retrieval.choose import Device, choose_index, suitable_index
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.histories import HistoryEncoder
from tf_hqgnn.retrieval.indices.index import EarlierIndex
from tf_hqgnn.retrieval.item_filter import ItemFilter

if TYPE_CHECKING:
    from tf_hqgnn.export.bundle import ServingBundle

# Users whose queries the index is tuned by.
_SAMPLE = 256


def _choice(name: str, settings: ModelSettings) -> tuple[Device, RetrievalConfig]:
    # The exact model has no index to choose: it needs no ScaNN, whatever the settings of the other model say.
    return ("cpu", settings.retrieval) if name == SCANN_MODEL else ("any", RetrievalConfig())


def same_module(bundle: ServingBundle, one: str, other: str, settings: Mapping[str, ModelSettings]) -> bool:
    """Whether two models answer by the same graph: most catalogues are too small for another index than the exact one.

    Args:
      bundle: what they hold.
      one: a model's name.
      other: another one's.
      settings: of each.
    """
    num_items = len(bundle.item_ids) if bundle.item_available is None else int(bundle.item_available.sum())
    first, second = (suitable_index(num_items, *_choice(name, settings[name])) for name in (one, other))
    same_settings = settings[one].export == settings[other].export
    return type(first) is type(second) and not first.settings and same_settings


def make_module(
    bundle: ServingBundle, name: str, settings: ModelSettings, earlier: EarlierIndex | None = None
) -> ServingModule:
    """The module of a model.

    Args:
      bundle: what it holds.
      name: of the model, `hqgnn` or `hqgnn_scann`.
      settings: of its answers and its index.
      earlier: the index of the version that it follows, as of `choose_index`.

    Raises:
      InputError: ScaNN is asked for and isn't installed, or the settings don't fit the catalogue.
    """
    device, retrieval = _choice(name, settings)
    users, items = make_rows(bundle.users), make_rows(bundle.items, for_cpu=settings.export.device == "cpu")
    item_filter = ItemFilter(len(bundle.item_ids), bundle.item_available, bundle.item_categories)
    sample = np.linspace(0, users.num_rows - 1, min(_SAMPLE, users.num_rows)).astype(np.int64)
    queries = users.queries(tf.constant(sample))
    top_k = choose_index(items, device, settings.export, retrieval, item_filter, queries, earlier)
    return ServingModule(
        user_ids=bundle.user_ids,
        item_ids=bundle.item_ids,
        users=users,
        items=items,
        top_k=top_k,
        seen=bundle.seen,
        learnt=None if bundle.learnt is None or _same(bundle.learnt, bundle.seen) else bundle.learnt,
        popularity=bundle.item_popularity,
        history=HistoryEncoder(items, bundle.user_hop_map),
        item_filter=item_filter,
        default_k=settings.export.default_k,
        features=None if bundle.features.users is None else bundle.features.users.make_module(),
        known_users=bundle.known_users,
        catalogue_items=bundle.catalogue_items,
    )


def _same(one: CSR, other: CSR) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other))
