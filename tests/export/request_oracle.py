"""What the signatures for named users and items must answer, in NumPy and, between codes, in exact arithmetic."""

import numpy as np
from export_oracle import Oracle, values
from retrieval.exact_scores import exact_cosines, exact_scores, rounded

from tf_hqgnn.quantization.codes import Codes


class RequestOracle(Oracle):
    """Works answers out one user at a time, from the bundle alone."""

    def is_known(self, user_id):
        row = self.user_rows.get(user_id)
        known = self.bundle.known_users
        return row is not None and (known is None or bool(known[row]))

    def all_scores(self, user_id):
        """Of a known user with every item."""
        bundle, row = self.bundle, self.user_rows[user_id]
        if isinstance(bundle.users, Codes) and isinstance(bundle.items, Codes):
            return np.array([float(rounded(score)) for score in exact_scores(bundle.users, bundle.items, row)])
        return (values(bundle.items).astype(np.float64) * values(bundle.users)[row]).sum(axis=1)

    def score(self, user_id, item_ids):
        """`(scores, known_items)`, 0 where something is unknown."""
        known = [name in self.item_rows for name in item_ids]
        if not self.is_known(user_id):
            return [0.0] * len(item_ids), known
        scores = self.all_scores(user_id)
        return [float(scores[self.item_rows[name]]) if name in self.item_rows else 0.0 for name in item_ids], known

    def similar_users(self, user_id, k):
        """`(cosines, user_ids)`, best first."""
        if not self.is_known(user_id):
            return [], []
        users, row = self.bundle.users, self.user_rows[user_id]
        if isinstance(users, Codes):
            cosines = [float(rounded(cosine)) for cosine in exact_cosines(users, row)]
        else:
            unit = users.astype(np.float64) / np.linalg.norm(users, axis=1, keepdims=True)
            cosines = (unit * unit[row]).sum(axis=1)
        names = self.bundle.user_ids
        others = [one for one, name in enumerate(names) if one != row and self.is_known(name)]
        ranked = sorted(others, key=lambda one: (-cosines[one], one))[:k]
        return [float(cosines[one]) for one in ranked], [str(names[one]) for one in ranked]

    def seen(self, user_id):
        """Rows of items."""
        indptr, indices = self.bundle.seen
        row = self.user_rows.get(user_id)
        return set() if row is None else set(indices[indptr[row] : indptr[row + 1]].tolist())

    def rerank(self, user_id, candidates, k, allow_seen):
        asked = {self.item_rows[name] for name in candidates if name in self.item_rows}
        blocked = self.blocked((), "") | (set() if allow_seen else self.seen(user_id))
        known = self.is_known(user_id)
        scores = self.all_scores(user_id) if known else self.bundle.item_popularity
        return self._answer(scores, blocked | (set(range(len(scores))) - asked), k)

    def with_history(self, user_id, history, k, exclude=(), category=""):
        """The row scaled down as its items become a part of all, and one hop over the new ones."""
        rows = {self.item_rows[name] for name in history if name in self.item_rows}
        seen, bundle = self.seen(user_id), self.bundle
        blocked = self.blocked(exclude, category) | seen | rows
        known = self.is_known(user_id)
        if not known and not rows:
            return self._answer(bundle.item_popularity, blocked, k)
        items = values(bundle.items).astype(np.float64)
        taken = seen if known else set()
        new = sorted(rows - taken)
        old_row = values(bundle.users)[self.user_rows[user_id]] if known else np.zeros(items.shape[1])
        if not new:
            return self._answer((items * old_row).sum(axis=1), blocked, k)
        size = len(taken) + len(new)
        query = np.sqrt(len(taken) / size) * old_row + items[new].sum(axis=0) @ self.user_map() / np.sqrt(size)
        return self._answer((items * query).sum(axis=1), blocked, k)

    def explain(self, user_id, item_id):
        """`(shares by row of the history, score, rest)`, each from its own formula."""
        if not self.is_known(user_id) or item_id not in self.item_rows:
            return {}, 0.0, 0.0
        items, row = values(self.bundle.items).astype(np.float64), self.item_rows[item_id]
        history = sorted(self.seen(user_id))
        hops = items[history] @ self.user_map() / np.sqrt(max(len(history), 1))
        user = values(self.bundle.users)[self.user_rows[user_id]]
        shares = dict(zip(history, (hops * items[row]).sum(axis=1)))
        return shares, float(self.all_scores(user_id)[row]), float((user - hops.sum(axis=0)) @ items[row])
