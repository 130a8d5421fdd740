"""Distillation: low-bit codes of propagated embeddings that learn to rank as the full-precision rows do.

No graph convolution is in the loop: the students are two tables that start at the full-precision rows and are trained
under quantizers, against the softmax of the full-precision scores over the catalogue (or a sample of it).
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.rotation import fit_scales
from tf_hqgnn.quantization.temperature import user_temperatures
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.training.code_fitting import fit_codes
from tf_hqgnn.training.code_logs import FlippedBits
from tf_hqgnn.training.distillation_trainer import FIRST_PLACES, Student, Trainer
from tf_hqgnn.types import Float32Array

Validate = Callable[[Float32Array, Float32Array], float]
OnEpoch = Callable[[dict[str, float]], None]


def distill(
    user_embeddings: Float32Array,
    item_embeddings: Float32Array,
    seen: CSR,
    config: QuantizationConfig,
    seed: int,
    validate: Validate | None = None,
    on_epoch: OnEpoch | None = None,
) -> CodedEmbeddings:
    """Trains codes that rank as the given rows do.

    1. Up to 4 bits, both tables are rotated for coding, and users fitted to the coded items (`rotation`). At 1 and 2
       bits, codes and users are also fitted to the ranking by discrete least squares (`fit_codes`). Training starts
       from what validates best: the rows as they are, rotated, or fitted. Without `validate`, from the last.
    2. Both tables are trained under `LowBitQuantizer`s to lower `ranking_divergence` from the given rows' ranking of
       unseen items. The temperature follows from how much of the softmax the first 20 items are to have, and learning
       rates are relative to the root mean square of each table and the distance of the levels, so that one setting
       serves all tables and bits.
    3. The epoch that validates best is kept; codes without training compete, too. Without `validate`, the last one is.
    4. With `distillation.fit_scales`, the scales of its items are fitted to the given rows' scores, if that validates
       better.

    Args:
      user_embeddings: float32 [U, d].
      item_embeddings: float32 [I, d].
      seen: `(indptr, indices)`, the items of each user that aren't ranked (its training items).
      config: Its `bits` may not be None; `method` isn't looked at.
      seed: Of the rotation, the batches and Hutchinson's probes.
      validate: a metric (more is better) of float32 users [U, d] and items [I, d] that the codes stand for.
      on_epoch: Called with `epoch` (from 1), `loss`, `flipped_users` and `flipped_items`, the share of bits that
        changed in the epoch, what `QuantizerProbe.finish` says of both sides (`delta_items` among it), and `valid`,
        the value of `validate`, where the epoch was validated.

    Returns:
      The codes. Scores are on the scale of the given rows', fitted ones up to a constant of each user.

    Raises:
      ValueError: The tables or `seen` don't fit each other or aren't finite, or `config.bits` is None.
      DivergenceError: The loss is no longer finite.

    Reference:
      HQ-GNN (arXiv 2309.01032) for the estimator; what is trained and against what is ours.

    Example:
      >>> rows = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
      >>> nothing = np.zeros(13, np.int64), np.zeros(0, np.int32)
      >>> print(distill(rows, rows, nothing, QuantizationConfig(bits=1), seed=1).items)
      12 rows of 4 x 1 bits, 3 bytes each
    """
    users, items = _checked(user_embeddings, item_embeddings, seen)
    if config.bits is None:
        raise ValueError("quantization.bits is null, which serves float32: set it to 1..8 to distil codes")
    student = Student(users, items, config)
    best, best_score = student.encode(), -np.inf

    def consider(coded: CodedEmbeddings) -> float | None:
        nonlocal best, best_score
        score = None if validate is None else float(validate(*coded.dequantize()))
        if score is None or score > best_score:
            best, best_score = coded, -np.inf if score is None else score
        return score

    start = users, items
    for candidate in student.starts(seed):
        student.assign(*candidate)
        coded = student.encode()
        consider(coded)
        if best is coded:
            start = candidate
    settings = config.distillation
    if config.fits_codes:
        temperatures = user_temperatures(users, items, seen, settings.top_share, FIRST_PLACES, seed)
        fitted, codes = fit_codes(users, items, seen, temperatures, config.bits, settings.fit_rounds, seed)
        coded = CodedEmbeddings(student.encode_users(fitted), codes)
        consider(coded)
        if best is coded:
            start = fitted, codes.dequantize()
    student.assign(*start)
    trainer = Trainer(student, (users, items), seen, config, seed)
    flipped = FlippedBits(student.encode())
    num_epochs, rate, _ = config.distillation_schedule
    for epoch in range(1, num_epochs + 1):
        logs = {"epoch": float(epoch), **trainer.run_epoch(epoch)}
        if not np.isfinite(logs["loss"]):
            raise DivergenceError(
                f"distillation diverged: its loss is {logs['loss']} in epoch {epoch}; lower "
                f"quantization.distillation.learning_rate, now {rate:g}"
            )
        coded = student.encode()
        logs |= flipped.update(coded)
        last = epoch == num_epochs
        if last or (validate is not None and epoch % settings.evaluate_every == 0):
            score = consider(coded)
            if score is not None:
                logs["valid"] = score
        if on_epoch is not None:
            on_epoch(logs)
    if settings.fit_scales and validate is not None and len(best.items.scale) == len(items):
        factor = fit_scales(users, items, *best.dequantize())
        consider(CodedEmbeddings(best.users, best.items.with_scale(best.items.scale * factor)))
    return best


def _checked(users: Float32Array, items: Float32Array, seen: CSR) -> tuple[Float32Array, Float32Array]:
    users, items = np.asarray(users, np.float32), np.asarray(items, np.float32)
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1] or not users.size or not items.size:
        raise ValueError(f"embeddings must have shapes [users, d] and [items, d], got {users.shape} and {items.shape}")
    for name, table in (("user", users), ("item", items)):
        if not np.isfinite(table).all():
            raise ValueError(f"the {name} embeddings hold NaN or infinity: did training diverge?")
    indptr, indices = seen
    if len(indptr) != len(users) + 1 or indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
        raise ValueError(
            f"seen must be (indptr, items) with an indptr of {len(users)} + 1 entries ascending from 0 to the number "
            f"of items, {len(indices)}; got {len(indptr)} entries"
        )
    if len(indices) and (np.min(indices) < 0 or np.max(indices) >= len(items)):
        raise ValueError(f"items of seen must be in [0, {len(items)}), got {np.min(indices)} to {np.max(indices)}")
    return users, items
