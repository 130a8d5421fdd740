"""What the signatures for named users and items must answer, in NumPy and, between codes, in exact arithmetic."""

import numpy as np
import tensorflow as tf
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

    def learnt(self, user_id):
        """As `seen`, of the items that a user's row was learnt from."""
        indptr, indices = self.bundle.learnt or self.bundle.seen
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
        taken = self.learnt(user_id) if known else set()
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
        history = sorted(self.learnt(user_id))
        hops = items[history] @ self.user_map() / np.sqrt(max(len(history), 1))
        user = values(self.bundle.users)[self.user_rows[user_id]]
        shares = dict(zip(history, (hops * items[row]).sum(axis=1)))
        return shares, float(self.all_scores(user_id)[row]), float((user - hops.sum(axis=0)) @ items[row])

    def where(
        self,
        user_id,
        exclude=(),
        include=(),
        category=(),
        exclude_category=(),
        allow_seen=False,
        popularity=0.0,
    ):
        """`(scores, item_ids)` of all items that may come back, best first."""
        bundle, num_items = self.bundle, len(self.bundle.item_ids)
        blocked = self.blocked(exclude, "") | (set() if allow_seen else self.seen(user_id))
        if any(include):
            blocked |= set(range(num_items)) - {self.item_rows[name] for name in include if name in self.item_rows}
        for row in range(num_items):
            has = self.categories(row)
            if (any(category) and not has & set(category)) or has & set(exclude_category):
                blocked.add(row)
        taken = np.where(bundle.item_available, bundle.item_popularity, 0).astype(np.float64)
        taken = np.maximum(taken, taken[taken > 0].min())
        shares = taken / taken[bundle.item_available].sum()
        base = self.all_scores(user_id) if self.is_known(user_id) else bundle.item_popularity
        return self._answer(base + popularity * np.log(shares), blocked, num_items)

    def regrets(self, ranked, chosen, k, diversity):
        """How much less than the best of those that are left each of the items `chosen` was worth."""
        scores, names = (of[: 4 * k] for of in ranked)
        if not names:
            return []
        units = {}
        for name in names:
            row = values(self.bundle.items)[self.item_rows[name]].astype(np.float64)
            units[name] = row / np.linalg.norm(row)
        span, regrets = (scores[0] - scores[-1]) or 1.0, []
        for number, name in enumerate(chosen):
            worth = {
                one: (1 - diversity) * (score - scores[-1]) / span
                - diversity * max((units[one] @ units[other] for other in chosen[:number]), default=0.0)
                for score, one in zip(scores, names)
                if one not in chosen[:number]
            }
            regrets.append(max(worth.values()) - worth[name])
        return regrets


def strings(values, *shape):
    return tf.reshape(tf.constant(list(values), tf.string), shape or (len(values),))


def texts(values):
    return [name.decode() for name in values.numpy()]


def users_of(oracle):
    """Some users of every kind: of no history, of all items, known by seen items alone, and unknown ones."""
    return [*oracle.bundle.user_ids[:8], "nobody", ""]


def check_near(outputs, row, k, ranked):
    """As `check_row`, of all items `ranked`; those of nearly equal scores may come in any order.

    A query that never was codes is float32, and so are its scores.
    """
    scores, ids = ranked
    near = {"rtol": 1e-5, "atol": 2e-6 * max([5.0, *np.abs(scores)])}
    found, answered = outputs["score"][row].numpy(), texts(outputs["item_id"][row])
    size = min(k, len(ids))
    assert (outputs["num_valid"][row], len(set(answered[:size])), answered[size:]) == (size, size, [""] * (k - size))
    assert (found[size:] == np.finfo(np.float32).min).all()
    np.testing.assert_allclose(found[:size], scores[:size], **near)
    of_item = dict(zip(ids, scores))
    np.testing.assert_allclose(found[:size], [of_item[name] for name in answered[:size]], **near)
