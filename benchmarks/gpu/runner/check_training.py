"""A training step against NumPy in float64: the loss, and some rows of the tables after the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .arrays import host_array
from .draws import Draw, draw_rows
from .execution import Execution
from .manifest import Array
from .training_reference import Batch, adam, gradients, hq_bpr
from .wrong import compare

_ROWS = 16
_TOLERANCE = 1e-2


def check(execution: Execution) -> str:
    """See `checks.check`."""
    program = execution.program
    settings = program.settings
    inputs = {array.name: array for array in program.inputs}
    batch = _batch(inputs, settings)
    answer = execution.answer()
    if settings["quantization"] is not None:
        return _check_quantized(settings, batch, answer, inputs)
    loss, by_user, by_item = gradients(settings["loss"], batch)
    compare("loss", answer["loss"], np.asarray(loss), 1e-3)
    rng = np.random.default_rng(0)
    for name, index, gradient in (("user_table", batch.user_index, by_user), ("item_table", batch.item_index, by_item)):
        rows = np.unique(index)
        touched = rng.permutation(rows)[:_ROWS]
        others = np.setdiff1d(rng.integers(0, settings["num_rows"], 4 * _ROWS), rows)[:_ROWS]
        summed = [gradient[index == row].sum(axis=0) for row in touched]
        _check_rows(name, touched, np.array(summed), answer, inputs, settings)
        _check_rows(name, others, None, answer, inputs, settings)
    return f"NumPy: loss, {2 * _ROWS} rows of each table"


def _check_quantized(settings: dict[str, Any], batch: Batch, answer: dict[str, Any], inputs: dict[str, Array]) -> str:
    rng = np.random.default_rng(0)
    for name, index in (("user_table", batch.user_index), ("item_table", batch.item_index)):
        touched = index if batch.negative_index is None or name == "user_table" else [*index, *batch.negative_index]
        others = np.setdiff1d(rng.integers(0, settings["num_rows"], 4 * _ROWS), touched)[:_ROWS]
        _check_rows(name, others, None, answer, inputs, settings)
    if settings["quantization"]["trace"] != "exact":
        for name in ("loss", "delta_users", "delta_items"):
            compare(f"whether {name} is finite", np.isfinite(answer[name]), np.ones([], bool), 0.0)
        return "rows outside the batch; the rest is finite"
    loss, delta_users, delta_items = hq_bpr(batch, settings["quantization"])
    compare("loss", answer["loss"], np.asarray(loss), 1e-3)
    compare("delta of users", answer["delta_users"], np.asarray(delta_users), 1e-2)
    compare("delta of items", answer["delta_items"], np.asarray(delta_items), 1e-2)
    return "NumPy: loss, both deltas, rows outside the batch"


def _check_rows(
    table: str,
    rows: np.ndarray,
    gradient: np.ndarray | None,
    answer: dict[str, np.ndarray],
    inputs: dict[str, Array],
    settings: dict[str, Any],
) -> None:
    """How the rows have moved; without a gradient they stay, but for a dense optimizer's momentum."""
    before, m, v = (
        draw_rows(Draw.from_json(inputs[name].source["draw"]), rows) for name in (table, f"m/{table}", f"v/{table}")
    )
    if gradient is None and not settings["dense"]:
        compare(f"{table} outside the batch", answer[table][rows], before, 0.0)
        return
    moved = adam(m, v, 0.0 if gradient is None else gradient, settings["learning_rate"], settings["step"])
    compare(f"the step of {table}", answer[table][rows].astype(np.float64) - before, moved, _TOLERANCE)


def _batch(inputs: dict[str, Array], settings: dict[str, Any]) -> Batch:
    user_index, item_index = (_on_host(inputs[name]) for name in ("user_index", "item_index"))
    negative_index = _on_host(inputs["negative_index"])[:, 0] if "negative_index" in inputs else None

    def rows(name: str, index: np.ndarray) -> np.ndarray:
        return draw_rows(Draw.from_json(inputs[name].source["draw"]), index).astype(np.float64)

    softmax = settings["loss"]["name"] == "softmax"
    return Batch(
        user_index=user_index,
        item_index=item_index,
        negative_index=negative_index,
        users=rows("user_table", user_index),
        items=rows("item_table", item_index),
        negatives=None if negative_index is None else rows("item_table", negative_index),
        log_popularity=rows("log_popularity", item_index) if softmax else None,
        weight=rows("user_weight", user_index) if softmax else None,
    )


def _on_host(array: Array) -> np.ndarray:
    """A small input, which needs no folder."""
    return host_array(array, Path())
