"""Accuracy by bits, by how active a user is, and by how popular an item is."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.report.charts import CODES, COLORS, MODEL, POPULARITY, Series, bar_chart, line_chart
from tf_hqgnn.report.markup import figure, number, paragraph, plots, section, table
from tf_hqgnn.report.validation_sample import K, ValidationSample, popularity_groups
from tf_hqgnn.training.coding import post_training_codes
from tf_hqgnn.types import IntArray

_BITS = (1, 2, 4, 8)


def accuracy(sample: ValidationSample) -> str:
    """The sections on bits and on kinds of users and items."""
    run = sample.run
    full = sample.rank(run.user_embeddings, run.item_embeddings)
    served = full if run.coded is None else sample.rank(*run.coded.dequantize())
    popular = sample.rank_popular()
    return _by_bits(sample, full, served, popular) + _by_kind(sample, served, popular)


def _by_bits(sample: ValidationSample, full: IntArray, served: IntArray, popular: IntArray) -> str:
    """NDCG of codes of several widths, by rounding alone, beside full precision and the run's own codes."""
    run = sample.run
    settings = run.config.quantization
    users, items = run.user_embeddings, run.item_embeddings
    reference = sample.ndcg(full)
    rows, ndcg = [], []
    follows = run.coded is not None and settings.user_bits == settings.bits
    for bits in _BITS:
        user_bits = bits if follows else settings.user_bits
        codes = post_training_codes(users, items, settings.model_copy(update={"bits": bits, "user_bits": user_bits}))
        ndcg.append(sample.ndcg(sample.rank(*codes.dequantize())))
        rows.append((f"{bits} bit, rounded", codes.items.bytes_per_item, ndcg[-1]))
    positions = [float(np.log2(bits)) for bits in _BITS]
    ends = [positions[0], positions[-1]]
    series = [Series("rounded after training", positions, ndcg)]
    if run.coded is not None and settings.bits is not None:
        rows.append((f"{settings.bits} bit, this run", run.coded.items.bytes_per_item, sample.ndcg(served)))
        series.insert(0, Series("this run", [float(np.log2(settings.bits))], [rows[-1][2]], CODES, "*"))
    rows.append(("float32", 4.0 * items.shape[1], reference))
    series.append(Series("float32", ends, [reference] * 2, COLORS[2], "--"))
    series.append(Series("popularity", ends, [sample.ndcg(popular)] * 2, POPULARITY, "--"))
    svg = line_chart(
        "bits",
        f"NDCG@{K} against bits a number of an item's row",
        ("bits per number", f"NDCG@{K}"),
        series,
        (positions, [str(bits) for bits in _BITS]),
        from_zero=True,
    )
    coded_users = "float32" if settings.user_bits is None else f"{settings.user_bits} bits"
    caption = (
        f"NDCG@{K} of {sample.described}. Items are coded, users are in "
        f"{'as many bits' if follows else coded_users}; the rounded ones are not trained. Bytes are those of an item."
    )
    cells = [
        [label, f"{size:.4g}", number(value), number(value / reference if reference else float("nan"), 3)]
        for label, size, value in rows
    ]
    header = ["items", "bytes", f"NDCG@{K}", "of float32"]
    return section("NDCG against bits", plots(figure(svg, caption)), table(header, cells))


def _by_kind(sample: ValidationSample, served: IntArray, popular: IntArray) -> str:
    """NDCG by the user's training interactions, recall by the item's."""
    buckets = sample.degree_buckets()
    ndcg = [[sample.ndcg(top, bucket.rows) for bucket in buckets] for top in (served, popular)]
    names = [str(bucket) for bucket in buckets]
    svg = bar_chart(
        "degrees",
        f"NDCG@{K} by training interactions of a user",
        ("training interactions of a user", f"NDCG@{K}"),
        names,
        [Series("model", (), ndcg[0], MODEL), Series("popularity", (), ndcg[1], POPULARITY)],
    )
    users = figure(svg, f"NDCG@{K} by how active a user is; {sample.described}.")
    rows = [[name, f"{len(bucket.rows):,}", number(a), number(b)] for name, bucket, a, b in zip(names, buckets, *ndcg)]
    by_user = table(["training interactions", "users", "model", "popularity"], rows)

    group = popularity_groups(sample.run.graph.item_degree)
    num_groups = int(group.max()) + 1
    items, found = sample.held_out(served)
    _, popular_found = sample.held_out(popular)
    count = np.bincount(group[items], minlength=num_groups)
    recall = [
        np.bincount(group[items], weights=hits, minlength=num_groups) / np.maximum(count, 1)
        for hits in (found, popular_found)
    ]
    names = [str(place + 1) for place in range(num_groups)]
    svg = bar_chart(
        "popularity-groups",
        f"Share of held-out interactions in the top {K}, by popularity of the item",
        (f"{num_groups} groups of items, 1 the most popular", f"found in the top {K}"),
        names,
        [Series("model", (), recall[0], MODEL), Series("popularity", (), recall[1], POPULARITY)],
    )
    caption = f"Share of held-out interactions found in the top {K}; groups of equally many items by popularity."
    rows = [
        [name, f"{n:,}", *([number(a), number(b)] if n else ["-", "-"])]
        for name, n, a, b in zip(names, count.tolist(), *recall)
    ]
    by_item = table(["group", "held out", "model", "popularity"], rows)
    note = paragraph("By the rows that are served, beside recommending the most popular items to everybody.", soft=True)
    left, right = f"<div>{users}{by_user}</div>", f"<div>{figure(svg, caption)}{by_item}</div>"
    return section("Accuracy by user and by item", note, plots(left, right))
