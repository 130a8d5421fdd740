"""Tables that hold low-bit codes and score from them; a float32 row is made when it is needed, for as long as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.bit_planes import (
    PlaneBlock,
    Words,
    spread_columns,
    spread_words,
    to_bytes,
    unpack_words,
)
from tf_hqgnn.retrieval.blocks import BY_BLOCKS_FROM, over_blocks
from tf_hqgnn.retrieval.coded_scores import Block, CodeBlock, QueryTerms, score_block
from tf_hqgnn.retrieval.int8_products import HIGHEST, MOST_DIMENSIONS
from tf_hqgnn.retrieval.int8_search import Int8Rows
from tf_hqgnn.retrieval.queries import Queries, QueryCodes, dequantize
from tf_hqgnn.retrieval.rows import Float32Rows, RowTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.stored_codes import StoredCodes, constant_variable, stripes_of
from tf_hqgnn.retrieval.variables import gather, read, rows_from
from tf_hqgnn.types import Float32Array

# Rows of up to so many bits, and words, are multiplied as bit planes where queries are coded, too.
_MOST_PLANES = 4
_MOST_WORDS = 64
# The work of bit planes grows with the planes of all queries, that of unpacked codes hardly; the answers are the same.
_MOST_QUERY_PLANES = 16
# Numbers that a block works on at once: few enough for a cache, many enough to be worth the block's overhead.
PLANE_BLOCK = 2**19
CODE_BLOCK = 2**18
# Products of planes that XLA is given at once: more take longer to compile, and the pass is no faster.
_FUSED_PRODUCTS = 16

# Sizes of a batch that XLA compiles for.
FUSED_BATCHES = np.array([1, 4, 16, 64, 256, 1024], np.int32)

# Scores of the stored rows from one on, so many of them.
Score = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class CodedRows(RowTable):
    """Rows r of codes c of b bits, for `offset[r] + scale[r] (2 c / (2^b - 1) - 1)`: bit planes, at 8 bits bytes.

    Between codes, scores are products of integers, found exactly, scaled in float64 and rounded to float32 once: the
    ranking is that of the exact products of the stored rows, down to what float32 can tell apart. Rows of up to 4 bits
    are multiplied by XOR and popcount; others, and many queries at once, as float32 products of their levels, which is
    the same number. Queries that are not codes take the latter way, and are as exact as float32 products are.

    Args:
      codes: N rows; or the arrays of a table made before, stored by blocks if `by_blocks` says so.
      by_blocks: see `RowTable`; by default where there are many rows. They are then stored as `Stripes`.
      for_cpu: whether `likely_parts` is there, which CPUs alone are fast at. At 8 bits it takes 4 bytes a row.

    Example:
      >>> items = CodedRows(Codes.quantize(np.array([[1.0, -1.0], [2.0, 2.0]]), num_bits=1))
      >>> items.score_all(items.queries(tf.constant([0]))).numpy().tolist(), items.bytes_per_row
      ([[2.0, 0.0]], 3.0)
    """

    def __init__(self, codes: Codes | StoredCodes, by_blocks: bool | None = None, for_cpu: bool = False) -> None:
        super().__init__(name="rows")
        num_rows = codes.num_rows if isinstance(codes, StoredCodes) else len(codes)
        self.num_rows, self.embedding_dim, self.num_bits = num_rows, codes.dim, codes.num_bits
        self.by_blocks = self.num_rows >= BY_BLOCKS_FROM if by_blocks is None else by_blocks
        self._bits = codes.num_bits
        self._stripes = stripes_of(num_rows, self.by_blocks)
        stored = codes if isinstance(codes, StoredCodes) else StoredCodes.of(codes, self.by_blocks)
        self.codes, self.words = stored.codes, stored.words
        self.scale, self.offset = stored.scale, stored.offset
        self._has_products = (
            for_cpu
            and self.by_blocks
            and self.offset is None
            and HIGHEST % self._highest == 0
            and self.embedding_dim <= MOST_DIMENSIONS
        )
        self._largest_scale = float(read(self.scale).numpy().max(initial=0)) if self._has_products else 0.0
        self.sums = None
        if self._has_products and self.codes is not None:
            sums = 2.0 * read(self.codes).numpy().sum(axis=1, dtype=np.float32) - HIGHEST * self.embedding_dim
            self.sums = constant_variable("sums", sums)
        arrays = [self.codes, *(word for plane in self.words for word in plane), self.scale, self.offset, self.sums]
        num_bytes = sum(array.dtype.size * array.shape.num_elements() for array in arrays if array is not None)
        self.bytes_per_row = num_bytes / max(num_rows, 1)

    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """See `RowTable`."""
        place = self._stripes.place(index)
        return dequantize(self._codes_at(place), self._bits, *self._ranges_at(place))

    def queries(self, index: tf.Tensor) -> Queries:
        """See `RowTable`; in both forms."""
        place = self._stripes.place(index)
        return Queries.of_codes(QueryCodes(self._codes_at(place), self._bits, *self._ranges_at(place)))

    def score_all(self, queries: Queries, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        batch, (by_codes, by_planes) = size_of(queries.rows, 0), self._scorers(queries, cosine)
        scores = self._by_planes_or_codes(
            queries,
            lambda rows_at_once: over_blocks(by_planes, batch, self.num_rows, rows_at_once),
            lambda rows_at_once: over_blocks(by_codes, batch, self.num_rows, rows_at_once),
        )
        return self._stripes.restore_columns(scores)

    def best_of_blocks(self, queries: Queries, cosine: bool, allowed: tf.Tensor | None, jit_compile: bool) -> tf.Tensor:
        """See `RowTable`; with XLA in one pass that keeps nothing but the maxima.

        Raises:
          ValueError: The table isn't stored by blocks.
        """
        if not self.by_blocks:
            raise ValueError("the rows are stored one after the other: make the table with by_blocks=True")
        allowed = None if allowed is None else self._stripes.store_columns(allowed)
        codes, batch = queries.codes, size_of(queries.rows, 0)
        if jit_compile and codes is not None and self._has_planes():
            return self._fused(codes, batch, cosine, allowed)
        by_codes, by_planes = self._scorers(queries, cosine)

        def of(score: Score) -> Callable[[tf.Tensor], tf.Tensor]:
            return lambda rows_at_once: self._stripes.best(score, batch, allowed, rows_at_once // self._stripes.count)

        return self._by_planes_or_codes(queries, of(by_planes), of(by_codes))

    def _fused(self, codes: QueryCodes, batch: tf.Tensor, cosine: bool, allowed: tf.Tensor | None) -> tf.Tensor:
        at_once = _FUSED_PRODUCTS // (self._bits * codes.num_bits * len(self.words[0]))

        @tf.function(jit_compile=True, autograph=False)
        def best(values: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor | None, allowed: tf.Tensor | None) -> tf.Tensor:
            asked = Queries.of_codes(QueryCodes(values, codes.num_bits, scale, offset))
            _, by_planes = self._scorers(asked, cosine, fused=True)
            return self._stripes.best(by_planes, size_of(values, 0), allowed, at_once)

        # XLA compiles for every size of a batch anew: a few sizes have to do.
        padded = tf.reduce_min(tf.where(batch <= FUSED_BATCHES, FUSED_BATCHES, tf.maximum(batch, FUSED_BATCHES[-1])))
        offset = None if codes.offset is None else _pad(codes.offset, padded)
        if allowed is not None and allowed.shape[0] != 1:
            allowed = _pad(allowed, padded)
        return best(_pad(codes.codes, padded), _pad(codes.scale, padded), offset, allowed)[:batch]

    def likely_parts(
        self, queries: Queries, cosine: bool, allowed: tf.Tensor | None, depth: tf.Tensor, jit_compile: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor] | None:
        """See `RowTable`; for products of codes whose ranges are centred on 0, unless XLA multiplies single bits."""
        asked = queries.codes
        if not self._has_products or cosine or asked is None or asked.offset is not None:
            return None
        if jit_compile and self._has_planes() and self._bits * asked.num_bits == 1:
            return None
        # Read here: a function that is called late is given values, no variables.
        factor, scale = HIGHEST // self._highest, read(self.scale)
        words = [[read(word) for word in plane] for plane in self.words]
        codes, sums = (None if values is None else read(values) for values in (self.codes, self.sums))

        def words_from(start: tf.Tensor, size: tf.Tensor) -> list[list[tf.Tensor]]:
            return [[rows_from(word, start, size) for word in plane] for plane in words]

        # XLA makes bytes of bits in one pass, where a row's bits fill whole bytes.
        is_spread = jit_compile and codes is None and self.embedding_dim % 8 == 0
        if is_spread:
            columns = tf.gather(asked.codes, spread_columns(self.embedding_dim), axis=1)
            asked = replace(asked, codes=columns)

        def compiled(compute: Callable[[Words], tf.Tensor]) -> Callable[[Words], tf.Tensor]:
            return tf.function(compute, jit_compile=True, autograph=False) if is_spread else compute

        spread = compiled(lambda words: spread_words(words, factor))
        sums_of = compiled(lambda words: factor * PlaneBlock(words, self.embedding_dim, is_spread).sums(tf.float32))

        def codes_from(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            if codes is not None:
                return rows_from(codes, start, size)
            if not is_spread:
                return unpack_words(words_from(start, size), self.embedding_dim, factor)
            return tf.reshape(to_bytes(spread(words_from(start, size))), [-1, self.embedding_dim])

        def sums_from(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            return sums_of(words_from(start, size)) if sums is None else rows_from(sums, start, size)[tf.newaxis]

        def scale_from(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            return (rows_from(scale, start, size) if scale.shape[0] == self.num_rows else scale)[tf.newaxis]

        rows = Int8Rows(
            self._stripes, self.embedding_dim, codes_from, sums_from, scale_from, self._largest_scale, is_spread
        )
        allowed = None if allowed is None else self._stripes.store_columns(allowed)
        if not self._has_planes():
            return rows.likely_parts(asked, allowed, depth)
        # Few planes are quicker as they are.
        batch = size_of(queries.rows, 0)
        none = tf.zeros([batch, 0], tf.int32), tf.constant(False)
        few = batch * asked.num_bits <= _MOST_QUERY_PLANES
        parts, is_sure = tf.cond(few, lambda: none, lambda: rows.likely_parts(asked, allowed, depth))
        return parts, is_sure

    def score_at(self, queries: Queries, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        place = self._stripes.place(index)
        rows: Block = (
            CodeBlock(self._codes_at(place), self._highest)
            if not self._multiplies_planes(queries)
            else PlaneBlock(self._words_at(place), self.embedding_dim)
        )
        return self._score(rows, QueryTerms.of(queries), *self._ranges_at(place), cosine)

    def _scorers(self, queries: Queries, cosine: bool, fused: bool = False) -> tuple[Score, Score]:
        """What scores some stored rows, by codes and by bit planes."""
        query = QueryTerms.of(queries)

        def by_codes(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            if self.codes is not None:
                codes = rows_from(self.codes, start, size)
            else:
                codes = unpack_words(self._words_from(start, size), self.embedding_dim)
            return self._score(CodeBlock(codes, self._highest), query, *self._ranges_from(start, size), cosine)

        def by_planes(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            rows = PlaneBlock(self._words_from(start, size), self.embedding_dim, fused)
            return self._score(rows, query, *self._ranges_from(start, size), cosine)

        return by_codes, by_planes

    def _by_planes_or_codes(
        self, queries: Queries, by_planes: Callable[[tf.Tensor], tf.Tensor], by_codes: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """The result of one of them, given how many rows to work on at once."""
        codes = queries.codes
        code_rows = tf.constant(CODE_BLOCK // self.embedding_dim + 1)
        if codes is None or not self._has_planes():
            return by_codes(code_rows)
        num_planes = size_of(queries.rows, 0) * codes.num_bits
        plane_rows = PLANE_BLOCK // tf.maximum(num_planes, 1) + 1
        if self._bits * codes.num_bits == 1:
            return by_planes(plane_rows)
        if queries.rows.shape[0] is not None:
            few = queries.rows.shape[0] * codes.num_bits <= _MOST_QUERY_PLANES
            return by_planes(plane_rows) if few else by_codes(code_rows)
        return tf.cond(num_planes <= _MOST_QUERY_PLANES, lambda: by_planes(plane_rows), lambda: by_codes(code_rows))

    def _multiplies_planes(self, queries: Queries) -> bool:
        return queries.codes is not None and self._has_planes() and self._bits * queries.codes.num_bits == 1

    def to_numpy(self) -> Float32Array:
        """See `RowTable`."""
        rows: Float32Array = self.gather(tf.range(self.num_rows)).numpy()
        return rows

    @property
    def _highest(self) -> int:
        return (1 << self._bits) - 1

    def _has_planes(self) -> bool:
        return self._bits <= _MOST_PLANES and len(self.words[0]) <= _MOST_WORDS

    def _score(
        self, rows: Block, query: QueryTerms, scale: tf.Tensor, offset: tf.Tensor | None, cosine: bool
    ) -> tf.Tensor:
        return score_block(rows, query, self._highest, self.embedding_dim, scale, offset, cosine)

    def _codes_at(self, place: tf.Tensor) -> tf.Tensor:
        if self.codes is not None:
            return gather(self.codes, place)
        return unpack_words(self._words_at(place), self.embedding_dim)

    def _words_at(self, place: tf.Tensor) -> list[list[tf.Tensor]]:
        return [[gather(word, place) for word in plane] for plane in self.words]

    def _words_from(self, start: tf.Tensor, size: tf.Tensor) -> list[list[tf.Tensor]]:
        return [[rows_from(word, start, size) for word in plane] for plane in self.words]

    def _ranges_at(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The scales and offsets of the rows stored at `place`, float32 of its shape."""
        place = place if self.scale.shape[0] == self.num_rows else tf.zeros_like(place)
        offset = None if self.offset is None else tf.cast(gather(self.offset, place), tf.float32)
        return tf.cast(gather(self.scale, place), tf.float32), offset

    def _ranges_from(self, start: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The scales and offsets of `size` stored rows, float16 [1, size], or [1, 1] if all share them."""

        def part(values: tf.Variable | tf.Tensor) -> tf.Tensor:
            shared = self.scale.shape[0] != self.num_rows
            return (read(values) if shared else rows_from(values, start, size))[tf.newaxis]

        return part(self.scale), None if self.offset is None else part(self.offset)


def make_rows(values: Codes | Float32Array, by_blocks: bool | None = None, for_cpu: bool = False) -> RowTable:
    """A table of codes, or of float32 [N, d]; `by_blocks` as of `RowTable`, `for_cpu` as of `CodedRows`."""
    return CodedRows(values, by_blocks, for_cpu) if isinstance(values, Codes) else Float32Rows(values, by_blocks)


def _pad(values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`values` with zeros after them, up to `size` along the first axis."""
    missing = tf.concat([[size - size_of(values, 0)], tf.shape(values)[1:]], axis=0)
    return tf.concat([values, tf.zeros(missing, values.dtype)], axis=0)
