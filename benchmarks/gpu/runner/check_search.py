"""A search against NumPy: scores made anew from the drawn codes, for some queries and some of the items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .arrays import EXCLUDED_AHEAD
from .draws import Draw, draw, draw_rows
from .execution import Execution
from .manifest import Array, Program
from .wrong import WrongAnswer

BLOCK = 64
_QUERIES = 4
_SAMPLE = 20_000

# By how much of a query's highest score others may be misjudged. Levels are integers that even products of 10 bits
# hold exactly; float32 rows may be multiplied with less, see README.
_TOLERANCE = {"codes": 1e-6, "float32": 2e-3}


def check(execution: Execution) -> str:
    """See `checks.check`. Looks at two answers: without exclusions, and with what was best excluded."""
    program = execution.program
    settings = program.settings
    num_items, k, batch = settings["num_items"], settings["k"], settings["batch"]
    tolerance = _TOLERANCE["float32" if settings["item_bits"] is None else "codes"]
    scores, items = execution.answer().values()
    _check_form(scores, items, num_items)
    score_of = scorer(program)
    rng = np.random.default_rng(0)
    queries = rng.permutation(batch)[:_QUERIES]
    everything = num_items <= 4 * _SAMPLE
    for query in queries:
        sample = np.arange(num_items) if everything else rng.integers(0, num_items, _SAMPLE)
        expected = score_of(query, items[query])
        margin = tolerance * float(np.abs(expected).max())
        off = float(np.abs(expected - scores[query]).max())
        if off > 1e-5 * float(np.abs(expected).max()):
            raise WrongAnswer(f"scores of query {query} are off by {off:.2g}")
        left_out = sample[~np.isin(sample, items[query])]
        better = left_out[score_of(query, left_out) > scores[query, -1] + margin]
        if len(better):
            raise WrongAnswer(f"item {better[0]} is better than the last of query {query}, but left out")
    listed = np.full(program.inputs[-1].shape, -1, np.int32)
    listed[:, :EXCLUDED_AHEAD] = items[:, :EXCLUDED_AHEAD]
    execution.set("excluded", listed)
    new_scores, new_items = execution.answer().values()
    _check_form(new_scores, new_items, num_items)
    if (new_items[:, :, np.newaxis] == listed[:, np.newaxis, :EXCLUDED_AHEAD]).any():
        raise WrongAnswer("an excluded item came back")
    kept = k - EXCLUDED_AHEAD
    off = float(np.abs(new_scores[:, :kept] - scores[:, EXCLUDED_AHEAD:]).max())
    if off > tolerance * float(np.abs(scores).max()):
        raise WrongAnswer(f"excluding the best items changes the scores of others by {off:.2g}")
    whole = "all items" if everything else f"{_SAMPLE:,} items"
    return f"NumPy: {len(queries)} queries, {whole} each; {EXCLUDED_AHEAD} best excluded"


def scorer(program: Program) -> Callable[[int, np.ndarray], np.ndarray]:
    """`(query, items)` to float64 scores of items [n] with one query, from the drawn arrays."""
    inputs = {array.name: array for array in program.inputs}
    settings = program.settings
    if settings["item_bits"] is None:
        rows = _whole(inputs["queries"]).astype(np.float64)
        return lambda query, items: _rows(inputs["values"], items).astype(np.float64) @ rows[query]
    bits, asked_bits = settings["item_bits"], settings["query_bits"]
    asked = _whole(inputs["query codes"]).astype(np.float64)
    asked_scale = _whole(inputs["query scale"]).astype(np.float64)
    levels = 2 * asked - (2**asked_bits - 1)

    def score(query: int, items: np.ndarray) -> np.ndarray:
        place = stored_place(items, settings["num_items"])
        item_levels = 2 * _codes(inputs, bits, settings["dim"], place).astype(np.float64) - (2**bits - 1)
        scale = _rows(inputs["scale"], place).astype(np.float64) * asked_scale[query]
        return (item_levels @ levels[query]) * scale / ((2**bits - 1) * (2**asked_bits - 1))

    return score


def stored_place(items: np.ndarray, num_items: int) -> np.ndarray:
    """Where the rows of items stand: blocks of 64 items; first the first row of each block, then the second, ..."""
    count = num_items // BLOCK
    return np.where(items < BLOCK * count, items % BLOCK * count + items // BLOCK, items)


def _codes(inputs: dict[str, Array], bits: int, dim: int, place: np.ndarray) -> np.ndarray:
    """The codes of stored rows, [n, d]: a byte each, or bits of words of 64, a plane for each bit of a code."""
    if bits == 8:
        return _rows(inputs["codes"], place)
    codes = np.zeros((len(place), dim), np.uint8)
    for plane in range(bits):
        for word in range(dim // 64):
            values = _rows(inputs[f"plane {plane} word {word}"], place).astype(np.uint64)
            columns = values[:, np.newaxis] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
            codes[:, word * 64 : word * 64 + 64] |= columns.astype(np.uint8) << np.uint8(plane)
    return codes


def _whole(array: Array) -> np.ndarray:
    return draw(Draw.from_json(array.source["draw"]))


def _rows(array: Array, index: np.ndarray) -> np.ndarray:
    return draw_rows(Draw.from_json(array.source["draw"]), index)


def _check_form(scores: np.ndarray, items: np.ndarray, num_items: int) -> None:
    """Best first, no item twice, none out of range."""
    if items.min() < 0 or items.max() >= num_items or not np.isfinite(scores).all():
        raise WrongAnswer("items are out of range, or scores aren't finite")
    if (np.diff(scores, axis=1) > 0).any():
        raise WrongAnswer("scores aren't in descending order")
    if (np.diff(np.sort(items, axis=1), axis=1) == 0).any():
        raise WrongAnswer("an item came back twice")
