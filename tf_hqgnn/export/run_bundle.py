"""The bundle of a training run."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.graph.csr import CSR, keep_columns
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import Float32Array


def bundle_of_rows(run: RunDirectory, seen: CSR) -> ServingBundle:
    """The bundle of a run, without items that nothing is known of: no question can be answered by such a row.

    Args:
      run: whose rows it holds.
      seen: `(indptr, indices)`, what never comes back to each user, of all items of the run.
    """
    coded, dataset, unknown = run.coded, run.dataset, run.unknown
    users = run.user_embeddings if coded is None else coded.users
    items: Codes | Float32Array = run.item_embeddings if coded is None else coded.items
    known = np.ones(dataset.num_items, bool) if unknown is None else ~unknown.items
    learnt: CSR = run.graph.seen()
    if not known.all():
        items = items.take(known) if isinstance(items, Codes) else items[known]
        seen, learnt = (keep_columns(one, np.flatnonzero(known), dataset.num_items) for one in (seen, learnt))
    return ServingBundle(
        user_ids=dataset.user_ids,
        item_ids=dataset.item_ids[known],
        users=users,
        items=items,
        seen=(seen[0].astype(np.int64), seen[1].astype(np.int32)),
        item_popularity=run.graph.item_strength[known].astype(np.float32),
        item_categories=None if dataset.categories is None else dataset.categories[known],
        item_available=None if dataset.available is None else dataset.available[known],
        item_titles=None if dataset.titles is None else dataset.titles[known],
        learnt=learnt,
        features=run.features,
        known_users=None if unknown is None or not unknown.users.any() else ~unknown.users,
    )
