"""The indices of tf_hqgnn, ScaNN alone and TensorFlow's brute force: `python -m benchmarks.ann.ours INDEX FOLDER`."""

from __future__ import annotations

import math
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.ann.rows import Built, K, main, tune
from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.export.layout import SCANN_MODEL
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.queries import Queries, QueryCodes
from tf_hqgnn.retrieval.scann import ScannTopK

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.

_EXACT = re.compile(r"exact, (\d) x (\d) bits(, CPU)?")
_SHARES_OF_LEAVES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_REORDER = 400


def build(index: str, items: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> tuple[Built, int | None]:
    """See `rows.main`."""
    dim = items.shape[1]
    if index == "TensorFlow":
        rows = tf.Variable(items)
        brute = tf.function(lambda asked: tf.math.top_k(tf.matmul(asked, rows, transpose_b=True), K).indices)
        return Built(lambda asked: brute(asked).numpy(), 4.0 * dim, tf.constant), None
    if index == "ScaNN alone":
        return _scann_alone(items, queries, exact)
    if bits := _EXACT.fullmatch(index):
        return _coded(items, int(bits[1]), int(bits[2]), bits[3] is not None), None
    table = make_rows(items)
    if index == SCANN_MODEL:
        scann = ScannTopK(table, RetrievalConfig(), sample=Queries(tf.constant(queries)))
        call = tf.function(lambda asked: scann.call(Queries(asked), tf.constant(K))[1])
        setting: int | None = scann.sizing.num_leaves_to_search
        # A hash of 4 bits for two numbers, in an index by products and one by cosines.
        num_bytes = table.bytes_per_row + dim / 2
    else:
        top_k = ExactTopK(table)
        call = tf.function(lambda asked: top_k.call(Queries(asked), tf.constant(K))[1])
        setting, num_bytes = None, table.bytes_per_row
    return Built(lambda asked: call(asked).numpy(), num_bytes, tf.constant), setting


def _coded(items: np.ndarray, num_bits: int, query_bits: int, for_cpu: bool) -> Built:
    """Queries are codes, too, as the users of a served model are."""
    table = make_rows(Codes.quantize(items, num_bits), for_cpu=for_cpu)
    top_k = ExactTopK(table, jit_compile=True)

    def encode(queries: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        codes = Codes.quantize(queries, query_bits)
        return tf.constant(codes.unpack()), tf.constant(codes.scale.astype(np.float32))

    @tf.function(reduce_retracing=True)
    def call(codes: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return top_k.call(Queries.of_codes(QueryCodes(codes, query_bits, scale, None)), tf.constant(K))[1]

    return Built(lambda asked: call(*asked).numpy(), table.bytes_per_row, encode)


def _scann_alone(items: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> tuple[Built, int]:
    """ScaNN's own Python interface, with the sizes of ours; its recall is tuned by the leaves, too."""
    from scann.scann_ops.py import scann_ops_pybind

    leaves = round(math.sqrt(len(items)))
    builder = scann_ops_pybind.builder(items, K, "dot_product")
    builder = builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 10)
    searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(_REORDER).build()

    def search(asked: np.ndarray, searched: int) -> np.ndarray:
        return searcher.search_batched(asked, leaves_to_search=searched)[0]

    shares = [max(1, round(share * leaves)) for share in _SHARES_OF_LEAVES]
    setting = tune(shares, lambda searched: search(queries, searched), exact)

    def call(asked: np.ndarray) -> np.ndarray:
        if len(asked) == 1:
            return searcher.search(asked[0], leaves_to_search=setting)[0][np.newaxis]
        return searcher.search_batched_parallel(asked, leaves_to_search=setting)[0]

    return Built(call, 4.25 * items.shape[1]), setting


if __name__ == "__main__":
    main(build)
