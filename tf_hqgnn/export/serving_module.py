"""From a bundle to the module that answers: the one that is exported, and the one that answers in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.export.layout import SCANN_MODEL, ModelSettings
from tf_hqgnn.export.module import ServingModule
from tf_hqgnn.retrieval.choose import Device, choose_index
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.filters import ItemFilter
from tf_hqgnn.retrieval.histories import HistoryEncoder

if TYPE_CHECKING:
    from tf_hqgnn.export.bundle import ServingBundle

# Users whose queries the index is tuned by.
_SAMPLE = 256


def make_module(bundle: ServingBundle, name: str, settings: ModelSettings) -> ServingModule:
    """The module of a model.

    Args:
      bundle: what it holds.
      name: of the model, `hqgnn` or `hqgnn_scann`.
      settings: of its answers and its index.

    Raises:
      InputError: ScaNN is asked for and isn't installed, or the settings don't fit the catalogue.
    """
    # The exact model has no index to choose: it needs no ScaNN, whatever the settings of the other model say.
    retrieval = settings.retrieval if name == SCANN_MODEL else RetrievalConfig()
    users, items = make_rows(bundle.users, by_blocks=False), make_rows(bundle.items)
    item_filter = ItemFilter(len(bundle.item_ids), bundle.item_available, bundle.item_categories)
    sample = np.linspace(0, users.num_rows - 1, min(_SAMPLE, users.num_rows)).astype(np.int64)
    device: Device = "cpu" if name == SCANN_MODEL else "any"
    top_k = choose_index(items, device, settings.export, retrieval, item_filter, users.queries(tf.constant(sample)))
    return ServingModule(
        user_ids=bundle.user_ids,
        item_ids=bundle.item_ids,
        users=users,
        items=items,
        top_k=top_k,
        seen=bundle.seen,
        popularity=bundle.item_popularity,
        history=HistoryEncoder(items, bundle.user_hop_map),
        item_filter=item_filter,
        default_k=settings.export.default_k,
        features=None if bundle.features.users is None else bundle.features.users.make_module(),
        known_users=bundle.known_users,
    )
