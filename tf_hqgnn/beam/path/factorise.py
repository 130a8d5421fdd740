"""The singular vectors of the normalised interactions, by products over blocks: the algorithm of one machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_hqgnn.beam.path.prepare import Prepared
from tf_hqgnn.beam.path.products import Graph, Table, multiply, start
from tf_hqgnn.beam.path.work import Work
from tf_hqgnn.config import ModelConfig
from tf_hqgnn.graph.truncated_svd import OVERSAMPLING, gram_eigen
from tf_hqgnn.types import Float32Array, Float64Array


@dataclass(frozen=True)
class Factors:
    """Singular vectors as tables: those of users, P, and those of items, Q, with the singular values between them.

    Args:
      users: the rows of P.
      items: those of Q.
      strength: float64 [k], descending.
    """

    users: Table
    items: Table
    strength: Float64Array


def factorise(work: Work, prepared: Prepared, config: ModelConfig, seed: int) -> Factors:
    """The first singular vectors of `D_U^-a R D_I^-c`, as `models.initialization.SpectralFactors` has them.

    Randomised subspace iteration from the same start as in `graph.truncated_svd`, so that both give the same up to
    rounding. Each product is a job; the driver gets its Gram matrix and makes the columns orthonormal by a small
    matrix, which the next product applies to the rows that it reads.

    Args:
      work: where the files are.
      prepared: the log in blocks.
      config: of the model.
      seed: of the start.
    """
    blocks = prepared.blocks
    exponents = config.spectral_user_exponent, config.spectral_item_exponent
    graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, exponents)
    # The basis is of the longer side.
    users_are_longer = blocks.num_users >= blocks.num_items
    columns = min(config.embedding_dim + OVERSAMPLING, blocks.num_users, blocks.num_items)
    table = start(work, "start", blocks, not users_are_longer, columns, seed)

    def step(number: int, table: Table, to_longer: bool) -> tuple[str, Float64Array]:
        name = f"product-{number:02d}"
        to_users = users_are_longer == to_longer
        return work.path(name), multiply(work, name, graph, table, to_users, prepared.edges)

    for number in range(2 * config.spectral_iterations):
        folder, gram = step(number, table, to_longer=number % 2 == 0)
        work.forget(f"product-{number - 1:02d}" if number else "start")
        table = Table(folder, _orthonormal(gram))
    folder, gram = step(2 * config.spectral_iterations, table, to_longer=True)
    work.forget(table.folder.rpartition("/")[2])
    longer = Table(folder, _orthonormal(gram))
    folder, gram = step(2 * config.spectral_iterations + 1, longer, to_longer=False)
    eigenvalues, rotation = gram_eigen(gram)
    strength = np.sqrt(eigenvalues[: config.embedding_dim])
    rotation = rotation[:, : config.embedding_dim]
    longer = Table(longer.folder, longer.rotation @ rotation.astype(np.float32))
    shorter = Table(folder, (rotation / strength).astype(np.float32))
    users, items = (longer, shorter) if users_are_longer else (shorter, longer)
    return Factors(users, items, strength)


def _orthonormal(gram: Float64Array) -> Float32Array:
    """The matrix by which columns of a Gram matrix become an orthonormal basis, float32 [c, at most c]."""
    eigenvalues, rotation = gram_eigen(gram)
    basis: Float32Array = (rotation / np.sqrt(eigenvalues)).astype(np.float32)
    return basis
