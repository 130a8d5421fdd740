"""What the run is and how good: sizes, settings, metrics at k."""

from __future__ import annotations

from tf_hqgnn.config import Config
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.report.charts import CODES, MODEL, POPULARITY, Series, bar_chart, line_chart
from tf_hqgnn.report.markup import figure, number, paragraph, plots, section, table, text
from tf_hqgnn.report.validation_sample import K
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import Float32Array

_COMBINED = {"sum": "their sum", "largest": "the largest", "last": "that of the last one"}
_METRICS = ("recall", "ndcg", "hit", "mrr", "precision", "coverage")


def headline(run: RunDirectory) -> str:
    """The figures to see first, and what they are of."""
    dataset, valid, popularity = run.dataset, run.metrics["valid"], run.metrics["popularity"]
    cards = [(f"{dataset.num_users:,}", "users"), (f"{dataset.num_items:,}", "items")]
    cards.append((f"{len(dataset.train):,}", "training interactions"))
    if valid:
        ndcg, usual = valid[f"ndcg@{K}"], popularity[f"ndcg@{K}"]
        times = f", {ndcg / usual:.1f} times popularity's" if usual > 0 else ""
        cards.append((number(ndcg), f"NDCG@{K}{times} (validation)"))
        cards.append((number(valid[f"recall@{K}"]), f"Recall@{K} (validation)"))
    cards.append((f"{bytes_per_row(run)[1]:.4g}", "bytes an item"))
    cards.append((f"{run.metrics['seconds']:,.0f} s", "training, with validation"))
    boxes = "".join(f'<div class="card"><b>{text(value)}</b><span>{text(label)}</span></div>' for value, label in cards)
    sizes = (
        f"Held out: {len(dataset.valid):,} interactions for validation, {len(dataset.test):,} for testing. "
        "Everything on this page is measured on the validation split, by which epochs and settings are chosen; "
        "the test split is left alone."
    )
    rules = "".join(paragraph(text(f"What the log says: {rule}.", 500), soft=True) for rule in dataset.report.rules)
    none = "" if valid else paragraph("No interaction was held out for validation, so no accuracy can be shown here.")
    return f'<div class="cards">{boxes}</div>\n{paragraph(sizes, soft=True)}{rules}{none}'


def metrics(run: RunDirectory) -> str:
    """Metrics at every k against popularity, as plots and as a table; nothing without a validation split."""
    valid = run.metrics["valid"]
    if not valid:
        return ""
    kinds = {f"{run.config.quantization.bits} bit" if run.coded else "model": valid}
    if run.coded and run.metrics.get("full_precision"):
        kinds["float32"] = run.metrics["full_precision"]
    kinds["popularity"] = run.metrics["popularity"]
    ks = sorted({int(key.partition("@")[2]) for key in valid})
    header, rows = ["metric", *kinds], []
    if len(kinds) == 3:
        header.append("ratio")
    for k in ks:
        for metric in _METRICS:
            values = [kind[f"{metric}@{k}"] for kind in kinds.values()]
            ratio = [number(values[0] / values[1] if values[1] else float("nan"), 3)] if len(kinds) == 3 else []
            rows.append([f"{metric}@{k}", *map(number, values), *ratio])
    return section("Metrics at k", plots(*_plots(kinds, ks)), table(header, rows))


def _plots(kinds: dict[str, dict[str, float]], ks: list[int]) -> list[str]:
    """Recall and NDCG over k; bars of more metrics where there is one k only."""
    colors = [*([CODES] if len(kinds) == 3 else []), MODEL, POPULARITY]
    if len(ks) == 1:
        names = [f"{metric}@{ks[0]}" for metric in _METRICS[:4]]
        bars = [
            Series(kind, (), [values[name] for name in names], color)
            for (kind, values), color in zip(kinds.items(), colors)
        ]
        svg = bar_chart("at-k", f"Metrics of {', '.join(kinds)}", ("metric", "value"), names, bars)
        return [figure(svg, "On the validation split.")]
    figures = []
    for metric, label in (("recall", "Recall"), ("ndcg", "NDCG")):
        series = [
            Series(kind, ks, [values[f"{metric}@{k}"] for k in ks], color)
            for (kind, values), color in zip(kinds.items(), colors)
        ]
        svg = line_chart(
            f"at-k-{metric}",
            f"{label} at k of {', '.join(kinds)}",
            ("k", label),
            series,
            (ks, [str(k) for k in ks]),
            from_zero=True,
        )
        figures.append(figure(svg, f"{label}@k on the validation split."))
    return figures


def settings(config: Config) -> str:
    """The settings that matter in a table, and all of them to unfold."""
    model, training, propagation, quantization = config.model, config.training, config.propagation, config.quantization
    ease = config.ease
    solved = propagation.make_solver().describe(propagation.t1, propagation.num_steps)
    coded = "none, float32 is served"
    if quantization.bits is not None:
        users = "float32" if quantization.user_bits is None else f"{quantization.user_bits} bits"
        coded = f"items {quantization.bits} bits, users {users}, {quantization.method}, {quantization.mode}"
    rows = [
        ["encoder", f"{model.encoder_choice().describe(model)}, {model.embedding_dim} dimensions"],
        ["loss", f"{config.loss.name}, {config.loss.make().describe()}, weight decay {config.loss.weight_decay:g}"],
        ["training", f"batches of {training.batch_size:,}, learning rate {training.learning_rate:g}"],
        ["propagation", f"{solved}, rows {'scaled to unit length' if propagation.normalize else 'as trained'}"],
        *([["EASE", f"{ease.columns} columns, weight {ease.weight:g}"]] if ease.columns else []),
        ["codes", coded],
        ["split", _split(config)],
        ["weights", _weights(config)],
        ["seed", str(config.seed)],
    ]
    everything = f"<details><summary>all settings</summary><pre>{text(config.to_yaml(), 50_000)}</pre></details>\n"
    return section("Settings", table(["setting", "value"], [[text(c) for c in row] for row in rows], 2), everything)


def _split(config: Config) -> str:
    split = config.data.split
    if split.method == "leave_last_out":
        return "the last two interactions of each user"
    if config.data.valid_path:
        return "files of their own for validation and testing"
    test = "a file of its own" if config.data.test_path else f"{split.test:g}"
    return f"{split.method}, {split.valid:g} for validation, {test} for testing"


def _weights(config: Config) -> str:
    """What a pair weighs, and what is disliked."""
    data = config.data
    parts = [f"several rows of a pair: {_COMBINED[data.combine]} (data.combine={data.combine})"]
    if data.event_weights is not None:
        parts.append(f"events: {', '.join(f'{name} {weight:g}' for name, weight in data.event_weights.items())}")
    if data.half_life_days is not None:
        parts.append(f"half as much every {data.half_life_days:g} days")
    if data.negative_rating is not None:
        parts.append(f"disliked: rated below {data.negative_rating:g}")
    return "; ".join(parts)


def bytes_per_row(run: RunDirectory) -> tuple[float, float]:
    """Bytes of a user's and of an item's embedding as they are served."""
    if run.coded is None:
        return _row_bytes(run.user_embeddings), _row_bytes(run.item_embeddings)
    return _row_bytes(run.coded.users), _row_bytes(run.coded.items)


def _row_bytes(rows: Codes | Float32Array) -> float:
    return rows.bytes_per_item if isinstance(rows, Codes) else 4.0 * rows.shape[1]
