"""Bundles to export, and what a served model must answer for them, worked out with NumPy."""

import numpy as np

from tf_hqgnn.export import ServingBundle

# Any UTF-8 is an id, also what would end a line of a vocabulary file.
ODD_IDS = ["a\nb", "tab\there", "007", "7", " ", "日本", "é", "e\u0301", "", "NULL"]


def make_bundle(num_users=30, num_items=40, dim=6, seed=0) -> ServingBundle:
    """Random embeddings; user 0 has seen nothing, user 1 everything, user 2 all but two; items 3 and 4 are twins."""
    rng = np.random.default_rng(seed)
    seen = [rng.choice(num_items, rng.integers(1, 12), replace=False) for _ in range(num_users)]
    seen[:3] = [np.array([], int), np.arange(num_items), np.arange(2, num_items)]
    items = (rng.normal(size=(num_items, dim)) * rng.uniform(0.2, 3, (num_items, 1))).astype(np.float32)
    items[4] = items[3]
    odd = [name for name in ODD_IDS if name]
    return ServingBundle(
        user_ids=np.array(sorted([f"u{n}" for n in range(num_users - len(odd))] + odd), object),
        item_ids=np.array(sorted([f"i{n}" for n in range(num_items - len(odd))] + odd), object),
        user_embeddings=rng.normal(size=(num_users, dim)).astype(np.float32),
        item_embeddings=items,
        seen=to_csr(seen),
        item_popularity=rng.integers(0, 5, num_items).astype(np.float32),
    )


def to_csr(rows):
    """`(indptr, indices)` of a list of the items of each row."""
    indptr = np.cumsum([0] + [len(row) for row in rows])
    return indptr.astype(np.int64), np.concatenate([np.sort(row) for row in rows]).astype(np.int32)


class Oracle:
    """A served model, one user and one item at a time."""

    def __init__(self, bundle: ServingBundle) -> None:
        self.bundle = bundle
        self.user_rows = {name: row for row, name in enumerate(bundle.user_ids)}
        self.item_rows = {name: row for row, name in enumerate(bundle.item_ids)}

    def recommend(self, user_id, k, exclude=()):
        bundle, row = self.bundle, self.user_rows.get(user_id)
        blocked = {self.item_rows[name] for name in exclude if name in self.item_rows}
        if row is None:
            return self._answer(bundle.item_popularity, blocked, k)
        indptr, indices = bundle.seen
        blocked |= set(indices[indptr[row] : indptr[row + 1]].tolist())
        return self._answer(_products(bundle.item_embeddings, bundle.user_embeddings[row]), blocked, k)

    def similar(self, item_id, k):
        row = self.item_rows.get(item_id)
        if row is None:
            return [], []
        unit = self.bundle.item_embeddings / np.linalg.norm(self.bundle.item_embeddings, axis=1, keepdims=True)
        return self._answer(_products(unit, unit[row]), {row}, k)

    def _answer(self, scores, blocked, k):
        allowed = [row for row in range(len(scores)) if row not in blocked]
        rows = sorted(allowed, key=lambda row: (-scores[row], row))[:k]
        return [float(scores[row]) for row in rows], [str(self.bundle.item_ids[row]) for row in rows]


def _products(rows, query):
    # Not a matrix product: those may sum equal rows in different orders, and a tie is no tie any more.
    return (rows.astype(np.float64) * query).sum(axis=1)


def check_row(outputs, row, k, expected):
    """Row `row` of a signature's outputs is `expected`, `(scores, item_ids)`, padded up to k."""
    scores, ids = expected
    padding = k - len(ids)
    np.testing.assert_allclose(outputs["score"].numpy()[row], scores + [-np.inf] * padding, rtol=1e-5, atol=1e-5)
    answered = [name.decode("utf-8") for name in outputs["item_id"].numpy()[row]]
    assert answered == ids + [""] * padding
    assert outputs["num_valid"].numpy()[row] == len(ids)
    assert len(set(answered[: len(ids)])) == len(ids)
