"""FAISS and usearch: `python -m benchmarks.ann.libraries INDEX FOLDER`; runs in .venv-ann, without tf_hqgnn."""

from __future__ import annotations

import math

import faiss
import numpy as np
from usearch.index import Index

from benchmarks.ann.rows import Built, K, main, tune

_THREADS = 2
_SHARES_OF_LEAVES = (0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_EXPANSIONS = (128, 256, 512, 1024, 2048, 4096)


def build(index: str, items: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> tuple[Built, int | None]:
    """See `rows.main`."""
    faiss.omp_set_num_threads(_THREADS)
    dim = items.shape[1]
    if index == "FAISS binary":
        binary = faiss.IndexBinaryFlat(dim)
        binary.add(_signs(items))
        return Built(lambda asked: binary.search(asked, K)[1], dim / 8, _signs), None
    if index == "FAISS flat":
        flat = faiss.IndexFlatIP(dim)
        flat.add(items)
        return Built(lambda asked: flat.search(asked, K)[1], 4.0 * dim), None
    return _usearch(items, queries, exact) if index == "usearch" else _faiss_ivf(items, queries, exact)


def _signs(rows: np.ndarray) -> np.ndarray:
    return np.packbits(rows > 0, axis=1)


def _faiss_ivf(items: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> tuple[Built, int]:
    leaves, dim = round(math.sqrt(len(items))), items.shape[1]
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, leaves, faiss.METRIC_INNER_PRODUCT)
    inverted.train(items[:: max(1, len(items) // (64 * leaves))])
    inverted.add(items)

    def answer(probes: int) -> np.ndarray:
        inverted.nprobe = probes
        return inverted.search(queries, K)[1]

    inverted.nprobe = tune([max(1, round(share * leaves)) for share in _SHARES_OF_LEAVES], answer, exact)
    # Beside a row stands its number.
    return Built(lambda asked: inverted.search(asked, K)[1], 4.0 * dim + 8), inverted.nprobe


def _usearch(items: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> tuple[Built, int]:
    graph = Index(ndim=items.shape[1], metric="ip", dtype="f32")
    graph.add(np.arange(len(items)), items, threads=_THREADS)

    def search(asked: np.ndarray) -> np.ndarray:
        return np.atleast_2d(graph.search(asked, K, threads=_THREADS).keys)

    def answer(expansion: int) -> np.ndarray:
        graph.expansion_search = expansion
        return search(queries)

    graph.expansion_search = tune(_EXPANSIONS, answer, exact)
    return Built(search, graph.memory_usage / len(items)), graph.expansion_search


if __name__ == "__main__":
    main(build)
