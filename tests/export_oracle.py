"""Bundles to export, and what a served model must answer for them, worked out with NumPy."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf
from retrieval.exact_scores import exact_cosines, exact_scores, rounded

from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.features.columns import Column
from tf_hqgnn.features.model import FeatureModel, FeatureModels
from tf_hqgnn.quantization.codes import Codes

# Any UTF-8 is an id, also what would end a line of a vocabulary file.
# The export of version 0.1 that is kept has a blank id, which no log has any more.
BLANK_OF_0_1 = {" a ": " "}
ODD_IDS = ["a\nb", "tab\there", "007", "7", " a ", "日本", "é", "e\u0301", "", "NULL"]

CATEGORIES = ["", "film", "book", "日本"]
UNAVAILABLE = (5, 9)


def make_bundle(num_users=30, num_items=40, dim=6, seed=0) -> ServingBundle:
    """Random embeddings; user 0 has seen nothing, user 1 everything, user 2 all but two; items 3 and 4 are twins.

    Items 5 and 9 aren't available.
    """
    rng = np.random.default_rng(seed)
    seen = [rng.choice(num_items, rng.integers(1, 12), replace=False) for _ in range(num_users)]
    seen[:3] = [np.array([], int), np.arange(num_items), np.arange(2, num_items)]
    items = (rng.normal(size=(num_items, dim)) * rng.uniform(0.2, 3, (num_items, 1))).astype(np.float32)
    items[4] = items[3]
    odd = [name for name in ODD_IDS if name]
    return ServingBundle(
        user_ids=np.array(sorted([f"u{n}" for n in range(num_users - len(odd))] + odd), object),
        item_ids=np.array(sorted([f"i{n}" for n in range(num_items - len(odd))] + odd), object),
        users=rng.normal(size=(num_users, dim)).astype(np.float32),
        items=items,
        seen=to_csr(seen),
        item_popularity=rng.integers(0, 5, num_items).astype(np.float32),
        item_categories=np.array(CATEGORIES, object)[rng.integers(0, len(CATEGORIES), num_items)],
        item_available=~np.isin(np.arange(num_items), UNAVAILABLE),
    )


def with_several_categories(bundle) -> ServingBundle:
    """A bundle of which some items have more than one category."""
    given = bundle.item_categories.copy()
    given[::5], given[1::7] = "film|book", "日本 | rare|"
    return dataclasses.replace(bundle, item_categories=given)


def without_dislikes(bundle):
    """A bundle of which every third seen item is one that no row was learnt from."""
    indptr, indices = bundle.seen
    rows = [indices[start:end] for start, end in itertools.pairwise(indptr)]
    return dataclasses.replace(bundle, learnt=to_csr([row[np.arange(len(row)) % 3 > 0] for row in rows]))


def with_user_features(bundle) -> ServingBundle:
    """A bundle whose users have features of every kind, with random weights."""
    columns = (
        Column("age", "number", knots=(7.0, 20.0, 60.0)),
        Column("gender", "category", values=("F", "M")),
        Column("tags", "list", values=("a", "b")),
        Column("about", "text", buckets=16),
    )
    width, dim = sum(column.width for column in columns), bundle.items.shape[1]
    rng = np.random.default_rng(4)
    parts = (rng.normal(size=shape).astype(np.float32) for shape in (width, (width, dim), dim))
    return dataclasses.replace(bundle, features=FeatureModels(users=FeatureModel(columns, *parts, strength=1.0)))


def coded(rows, num_bits, symmetric=True, per_tensor=False) -> Codes:
    """Codes of float rows; `per_tensor`, all share one range, that clips some."""
    ranges = None
    if per_tensor:
        upper = np.abs(rows).max(keepdims=True)[0] * 0.7
        ranges = (-upper, upper) if symmetric else (-0.8 * upper, upper)
    return Codes.quantize(rows, num_bits, symmetric=symmetric, ranges=ranges)


def coded_bundle(bits, user_bits, dim=6, **options) -> ServingBundle:
    """`make_bundle` with items, and users unless `user_bits` is None, in codes."""
    bundle = make_bundle(dim=dim)
    users = bundle.users if user_bits is None else coded(bundle.users, user_bits, **options)
    return dataclasses.replace(bundle, users=users, items=coded(bundle.items, bits, **options))


def values(rows):
    """What rows stand for, float32."""
    return rows.dequantize() if isinstance(rows, Codes) else rows


def to_csr(rows):
    """`(indptr, indices)` of a list of the items of each row."""
    indptr = np.cumsum([0] + [len(row) for row in rows])
    return indptr.astype(np.int64), np.concatenate([np.sort(row) for row in rows]).astype(np.int32)


class Oracle:
    """A served model, one user and one item at a time; between codes, scores are exact, then rounded once."""

    def __init__(self, bundle: ServingBundle) -> None:
        self.bundle = bundle
        self.user_rows = {name: row for row, name in enumerate(bundle.user_ids)}
        self.item_rows = {name: row for row, name in enumerate(bundle.item_ids)}

    def blocked(self, exclude, category):
        """Rows that may not come back whoever asks."""
        bundle = self.bundle
        blocked = {self.item_rows[name] for name in exclude if name in self.item_rows}
        if bundle.item_available is not None:
            blocked |= set(np.flatnonzero(~bundle.item_available).tolist())
        if category:
            blocked |= {row for row in range(len(bundle.item_ids)) if category not in self.categories(row)}
        return blocked

    def categories(self, row):
        """Of an item."""
        given = self.bundle.item_categories
        return set() if given is None else {name.strip() for name in given[row].split("|")} - {""}

    def recommend(self, user_id, k, exclude=(), category=""):
        bundle, row = self.bundle, self.user_rows.get(user_id)
        blocked = self.blocked(exclude, category)
        if row is None:
            return self._answer(bundle.item_popularity, blocked, k)
        indptr, indices = bundle.seen
        blocked |= set(indices[indptr[row] : indptr[row + 1]].tolist())
        if isinstance(bundle.users, Codes) and isinstance(bundle.items, Codes):
            scores = [rounded(score) for score in exact_scores(bundle.users, bundle.items, row)]
        else:
            scores = _products(values(bundle.items), values(bundle.users)[row])
        return self._answer(scores, blocked, k)

    def for_history(self, history, k, exclude=(), category=""):
        bundle = self.bundle
        rows = sorted({self.item_rows[name] for name in history if name in self.item_rows})
        blocked = self.blocked(exclude, category) | set(rows)
        if not rows:
            return self._answer(bundle.item_popularity, blocked, k)
        items = values(bundle.items).astype(np.float64)
        query = (items[rows].sum(axis=0) / np.sqrt(len(rows))) @ self.user_map()
        return self._answer(_products(items, query), blocked, k)

    def user_map(self):
        """By least squares over augmented rows, as ridge regression can be written."""
        bundle = self.bundle
        indptr, indices = bundle.learnt or bundle.seen
        hops, targets = [], []
        for row, user in enumerate(values(bundle.users)):
            seen = indices[indptr[row] : indptr[row + 1]]
            if len(seen):
                hops.append(values(bundle.items)[seen].astype(np.float64).sum(axis=0) / np.sqrt(len(seen)))
                targets.append(user)
        hops, targets = np.array(hops), np.array(targets)
        dim = hops.shape[1]
        ridge = np.sqrt(1e-3 * np.square(hops).sum() / dim) * np.eye(dim)
        augmented = np.concatenate([hops, ridge]), np.concatenate([targets, np.zeros((dim, dim))])
        return np.linalg.lstsq(*augmented, rcond=None)[0]

    def similar(self, item_id, k):
        row = self.item_rows.get(item_id)
        if row is None:
            return [], []
        items, blocked = self.bundle.items, self.blocked((), "") | {row}
        if isinstance(items, Codes):
            return self._answer([rounded(score) for score in exact_cosines(items, row)], blocked, k)
        unit = items / np.linalg.norm(items, axis=1, keepdims=True)
        return self._answer(_products(unit, unit[row]), blocked, k)

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
    np.testing.assert_allclose(
        outputs["score"].numpy()[row], scores + [np.finfo(np.float32).min] * padding, rtol=1e-5, atol=1e-5
    )
    answered = [name.decode("utf-8") for name in outputs["item_id"].numpy()[row]]
    assert answered == ids + [""] * padding
    assert outputs["num_valid"].numpy()[row] == len(ids)
    assert len(set(answered[: len(ids)])) == len(ids)


def save_function(folder, name, function):
    """Writes a SavedModel whose one signature is a function of `x`, float32 [n]; returns its folder."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures={name: module.function})
    return folder
