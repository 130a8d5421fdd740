"""The table of benchmarks/README.md from the CSV of run.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A row for each program that was timed, and a sentence on those which weren't."""
    timed = [row for row in rows if row["median_ms"]]
    lines = [
        "| program | ms, median | p95 | of the memory's limit | times torch | TensorFlow on a CPU, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in timed:
        share = f"{100 * float(row['memory_share']):.2g}%" if row["memory_share"] else ""
        torch = f"{float(row['times_torch']):.2f}" if row["times_torch"] else ""
        calls = int(row["calls"])
        name = row["program"] if calls >= 20 else f"{row['program']} ({calls} calls)"
        wrong = "" if row["status"] == "ok" else f" **{row['status']}**"
        times = [_ms(row[column]) for column in ("median_ms", "p95_ms")]
        cells = [name + wrong, *times, share, torch, _ms(row["tensorflow_cpu_ms"])]
        lines.append(f"| {' | '.join(cells)} |")
    devices = Counter((row["device"], row["driver"], row["library"]) for row in timed)
    machines = "; ".join(
        f"{device}, driver {driver}, {library}" if driver else f"{device}, {library} (no GPU)"
        for device, driver, library in devices
    )
    others = Counter(row["status"] for row in rows if not row["median_ms"])
    missing = "; ".join(f"{count} {status}" for status, count in sorted(others.items()))
    versions = ", ".join(sorted({row["tensorflow"] for row in rows if row["tensorflow"]}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    lines += ["", f"{machines}. Programs of TensorFlow {versions}, commit {commits}."]
    if missing:
        lines.append(f"Rows without a time: {missing} (the CSV says why).")
    return "\n".join(lines)


def _ms(text: str) -> str:
    return f"{float(text):,.4g}" if text and float(text) < 1000 else f"{float(text):,.0f}" if text else ""
