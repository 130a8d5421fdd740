"""Exact search: from the codes of a table to the k best items of each query, excluded ones left out."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from benchmarks.gpu.maker.program import Definition, Source, drawn, num_bytes
from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.manifest import Array
from tf_hqgnn.retrieval.coded_rows import CodedRows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_fixed
from tf_hqgnn.retrieval.queries import Queries, QueryCodes
from tf_hqgnn.retrieval.rows import Float32Rows, RowTable
from tf_hqgnn.retrieval.stored_codes import StoredCodes

K = 20
EXCLUDED = 32


@dataclass(frozen=True)
class Search:
    """A way to search.

    Args:
      name: in the table.
      item_bits: of an item's numbers; None for float32.
      query_bits: of a query's.
      by_planes: whether XLA multiplies bit planes by XOR and popcount (`export.jit_compile`); else codes are turned
        into float32 levels and multiplied as matrices. At 8 bits there are no planes.
    """

    name: str
    item_bits: int | None
    query_bits: int | None
    by_planes: bool = False


FLOAT32 = Search("float32", None, None)
BYTES = Search("8 x 8 bits", 8, 8)
FOUR_BITS = Search("4 x 8 bits", 4, 8)
FOUR_BITS_PLANES = Search("4 x 8 bits, popcount", 4, 8, by_planes=True)
TWO_BITS = Search("2 x 8 bits", 2, 8)
TWO_BITS_PLANES = Search("2 x 8 bits, popcount", 2, 8, by_planes=True)
ONE_BIT = Search("1 x 8 bits", 1, 8)
ONE_BIT_PLANES = Search("1 x 8 bits, popcount", 1, 8, by_planes=True)
ONE_BY_ONE = Search("1 x 1 bits, popcount", 1, 1, by_planes=True)


def search(way: Search, num_items: int, dim: int, batch: int, k: int = K, check: bool = False) -> Definition:
    """The program that searches `num_items` items for `batch` queries."""
    items = _items(way, num_items, dim)
    queries = _queries(way, dim, batch)
    excluded = Array((batch, EXCLUDED), "int32", "excluded", {"from": "excluded"})
    arguments = [*items, *queries, excluded]
    answer = batch * k * 8

    def build() -> Source:
        def function(*tensors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            stored, asked = tensors[: len(items)], tensors[len(items) : -1]
            top_k = ExactTopK(_table(way, num_items, dim, stored), jit_compile=way.by_planes)
            return top_k.call(_asked(way, asked), tf.constant(k), block_fixed(tensors[-1], num_items))

        return Source(function, [array.name for array in arguments])

    return Definition(
        name=f"search {way.name}, {num_items:,} x {dim}, batch {batch:,}",
        kind="search",
        settings={
            "way": way.name,
            "item_bits": way.item_bits,
            "query_bits": way.query_bits,
            "num_items": num_items,
            "dim": dim,
            "batch": batch,
            "k": k,
        },
        inputs={array.name: array for array in arguments},
        moved_bytes=num_bytes(*arguments) + answer,
        build=build,
        check_with_tensorflow=check,
    )


def _items(way: Search, num_items: int, dim: int) -> list[Array]:
    """The arrays of a table, as it stores them; any bits are the codes of some rows."""
    if way.item_bits is None:
        group = f"items float32 {num_items} x {dim}"
        return [drawn("values", Draw("normal", 1, (num_items, dim), "float32"), group)]
    group = f"items {way.item_bits} bits {num_items} x {dim}"
    if way.item_bits == 8:
        codes = [drawn("codes", Draw("bytes", 2, (num_items, dim), "uint8"), group)]
    else:
        places = [(plane, word) for plane in range(way.item_bits) for word in range(dim // 64)]
        codes = [
            drawn(f"plane {plane} word {word}", Draw("words", 10 + 2 * number, (num_items,), "int64"), group, number)
            for number, (plane, word) in enumerate(places)
        ]
    scale = drawn("scale", Draw("scales", 3, (num_items,), "float16"), group, len(codes))
    return [*codes, scale]


def _queries(way: Search, dim: int, batch: int) -> list[Array]:
    if way.query_bits is None:
        return [drawn("queries", Draw("normal", 4, (batch, dim), "float32"))]
    codes = drawn("query codes", Draw("bits" if way.query_bits == 1 else "bytes", 5, (batch, dim), "uint8"))
    return [codes, drawn("query scale", Draw("positive", 6, (batch,), "float32"))]


def _table(way: Search, num_items: int, dim: int, stored: tuple[tf.Tensor, ...]) -> RowTable:
    if way.item_bits is None:
        return Float32Rows(stored[0])
    *codes, scale = stored
    if way.item_bits == 8:
        return CodedRows(StoredCodes(num_items, dim, 8, codes[0], [], scale, None))
    num_words = dim // 64
    planes = [codes[plane * num_words : (plane + 1) * num_words] for plane in range(way.item_bits)]
    return CodedRows(StoredCodes(num_items, dim, way.item_bits, None, planes, scale, None))


def _asked(way: Search, asked: tuple[tf.Tensor, ...]) -> Queries:
    if way.query_bits is None:
        return Queries(asked[0])
    return Queries.of_codes(QueryCodes(asked[0], way.query_bits, asked[1], None))
