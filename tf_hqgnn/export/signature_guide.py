"""What each signature of an exported model takes and returns, in words. Needs no TensorFlow.

The page of the documentation and the README.md in every export are written from this; a test compares it with the
signatures of a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tf_hqgnn.export.layout import FOR_FEATURES, MAX_PADDED_K, RANGES

# What the letters in shapes are.
LETTERS = (
    "B is the number of users or items in a request, k the number of answers for each, d the number of values in an "
    "embedding. The other letters are lengths of lists."
)
_PADDED = 'Shorter rows end in `""`.'
_LIST = f'{_PADDED} Unused: one row of `""` for all.'
_ANSWER = 'Ends in `""`.'
_INNER = "Inner product of the user's and the item's embedding; of an unknown user, the item's interactions."


@dataclass(frozen=True)
class TensorGuide:
    """An input or output of a signature.

    Args:
      name: as in the signature.
      dtype: TensorFlow's name of it.
      shape: with letters for sizes that a request chooses.
      meaning: a sentence.
      padding: how rows are filled up; empty where they aren't.
    """

    name: str
    dtype: str
    shape: str
    meaning: str
    padding: str = ""


@dataclass(frozen=True)
class SignatureGuide:
    """A signature.

    Args:
      name: its name.
      about: what it answers, a sentence.
      inputs: what it takes; TF Serving wants all of them.
      outputs: what it returns.
    """

    name: str
    about: str
    inputs: tuple[TensorGuide, ...]
    outputs: tuple[TensorGuide, ...]


def _k(of: str) -> TensorGuide:
    limit = f"the number of {of}, or {MAX_PADDED_K:,} if that is more"
    return TensorGuide("k", "int32", "[]", f"How many answers to return, from 0 to {limit}.")


def _ids(name: str, of: str, shape: str = "[B]") -> TensorGuide:
    return TensorGuide(name, "string", shape, f"ID of {of}, in UTF-8; an unknown one is no error.")


def _flags(name: str, of: str, shape: str = "[B]") -> TensorGuide:
    return TensorGuide(name, "bool", shape, f"Whether the model knows {of}.")


def _answer(score: str, ids: str = "item_id", known: str = "known_user") -> tuple[TensorGuide, ...]:
    of = "users" if ids == "similar_user_id" else "items"
    return (
        TensorGuide(ids, "string", "[B, k]", f"The {of}, best first.", _ANSWER),
        TensorGuide("score", "float32", "[B, k]", score, "Ends in the lowest finite float32."),
        TensorGuide("num_valid", "int32", "[B]", "How many answers of a row are real."),
        _flags(known, f"the {known.removeprefix('known_')}"),
    )


_USER, _K_ITEMS = _ids("user_id", "each user"), _k("items")
_EXCLUDE = TensorGuide("exclude_item_id", "string", "[B, E]", "Items that must not come back.", _LIST)
_CATEGORY = TensorGuide("category", "string", "[B]", 'Category of the items that may come back; `""` for any.')
_HISTORY = TensorGuide("history_item_id", "string", "[B, H]", "Items that the user took; they don't come back.", _LIST)
_UNKNOWN = TensorGuide("num_unknown", "int32", "[B]", "How many items of the history the model doesn't know.")
_MAY_SEE = TensorGuide("allow_seen", "bool", "[B] or [1]", "Whether items that the user took may come back.")
_OPTIONS = (_K_ITEMS, _EXCLUDE, _CATEGORY)


def _number(name: str, meaning: str) -> TensorGuide:
    low, high = RANGES[name]
    return TensorGuide(name, "float32", "[B] or [1]", f"{meaning} From {low:,g} to {high:,g}; 0 changes nothing.")


def _items(name: str, shape: str, meaning: str, padding: str = _LIST) -> TensorGuide:
    return TensorGuide(name, "string", f"{shape} or {shape.replace('B', '1')}", meaning, padding)


_WHERE = (
    _USER,
    _K_ITEMS,
    _items("exclude_item_id", "[B, E]", "Items that must not come back."),
    _items("include_item_id", "[B, M]", "The only items that may come back; without any, all may."),
    _items("category", "[B, C]", "Categories of which an item must have one; without any, all items may come back."),
    _items("exclude_category", "[B, D]", "Categories of which an item must have none."),
    _MAY_SEE,
    _number("diversity", "How far an item that differs from those above it moves up."),
    _number("popularity", "Times the logarithm of an item's share of all interactions, added to its score."),
)
SIGNATURES = (
    SignatureGuide("serving_default", "Recommend ten items, or `export.default_k`.", (_USER,), _answer(_INNER)),
    SignatureGuide("recommend", "Recommend items to users.", (_USER, *_OPTIONS), _answer(_INNER)),
    SignatureGuide(
        "recommend_for_history",
        "Recommend to users of whom only the items that they took are known.",
        (replace(_HISTORY, padding=_PADDED), *_OPTIONS),
        (*_answer(_INNER), _UNKNOWN),
    ),
    SignatureGuide(
        "recommend_with_history",
        "Recommend to users who took more items since the training.",
        (_USER, _HISTORY, *_OPTIONS),
        (*_answer(_INNER), _UNKNOWN),
    ),
    SignatureGuide(
        FOR_FEATURES,
        "Recommend to users of whom only features are known; in models that were trained with features of users.",
        (TensorGuide("user_feature", "string", "[B, F]", "Features of the user, as `age=24`.", _PADDED), *_OPTIONS),
        _answer(_INNER),
    ),
    SignatureGuide(
        "recommend_where",
        "Recommend with every option.",
        _WHERE,
        _answer(f"{_INNER} With `popularity` added; with `diversity` the scores need not descend."),
    ),
    SignatureGuide(
        "rerank",
        "Order named items for users.",
        (_USER, _items("candidate_item_id", "[B, C]", "The items to order.", _PADDED), _K_ITEMS, _MAY_SEE),
        _answer(_INNER),
    ),
    SignatureGuide(
        "score",
        "Score named items for users.",
        (_USER, _items("item_id", "[B, C]", "The items to score.", _PADDED)),
        (
            TensorGuide("score", "float32", "[B, C]", "As `recommend` ranks by; 0 if the user or item is unknown."),
            _flags("known_user", "the user"),
            _flags("known_item", "the item", "[B, C]"),
        ),
    ),
    SignatureGuide(
        "explain",
        "Find the items of a user's history that contribute most to a score.",
        (_USER, _ids("item_id", "the item to explain for each user"), _K_ITEMS),
        (
            TensorGuide("history_item_id", "string", "[B, k]", "Items of the history, highest share first.", _ANSWER),
            TensorGuide("share", "float32", "[B, k]", "What the item of the history adds to the score.", "Ends in 0."),
            TensorGuide("num_valid", "int32", "[B]", "How many shares of a row are real."),
            TensorGuide("score", "float32", "[B]", "The sum of the shares of the whole history, plus `rest`."),
            TensorGuide("rest", "float32", "[B]", "What the history doesn't explain."),
            _flags("known_user", "the user"),
            _flags("known_item", "the item"),
        ),
    ),
    SignatureGuide(
        "similar_items",
        "Find the items that are most like an item.",
        (_ids("item_id", "each item"), _K_ITEMS),
        _answer("Cosine of the two embeddings, from -1 to 1.", known="known_item"),
    ),
    SignatureGuide(
        "similar_users",
        "Find the users who are most like a user.",
        (_USER, _k("users")),
        _answer("Cosine of the two embeddings, from -1 to 1.", ids="similar_user_id"),
    ),
    SignatureGuide(
        "embed_user",
        "Look up the embedding of users.",
        (_USER,),
        (
            TensorGuide("embedding", "float32", "[B, d]", "What items are scored with; zeros for an unknown user."),
            _flags("known_user", "the user"),
        ),
    ),
    SignatureGuide(
        "tf_example",
        "As `serving_default`, for clients that send tf.Examples.",
        (TensorGuide("examples", "string", "[B]", "Serialized tf.Examples with the feature `user_id`."),),
        _answer(_INNER),
    ),
)


def markdown(guide: SignatureGuide) -> str:
    """The inputs and outputs of a signature as a table in Markdown."""
    header = ("tensor", "dtype", "shape", "meaning", "padding")
    lines = [header, ("---",) * len(header), *_rows("in", guide.inputs), *_rows("out", guide.outputs)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(direction: str, tensors: Iterable[TensorGuide]) -> Iterable[tuple[str, ...]]:
    for one in tensors:
        yield f"{direction}: `{one.name}`", one.dtype, one.shape, one.meaning, one.padding
