"""What the settings were chosen from, where a race chose them."""

from __future__ import annotations

from tf_hqgnn.auto.choice import Choice
from tf_hqgnn.auto.choose import FILE
from tf_hqgnn.report.markup import number, paragraph, section, table, text
from tf_hqgnn.runs.run_directory import RunDirectory


def race(run: RunDirectory) -> str:
    """The contestants, the best first, and why the settings are as they are; nothing where none were raced."""
    path = run.path / FILE
    if not path.is_file():
        return ""
    tried = sorted(Choice.load(path).tried, key=lambda one: -one.value)
    rows = [[one.kind, text(one.text), f"{one.epochs:g}", number(one.value)] for one in tried]
    header = ["kind", "settings", "epochs", f"valid {run.config.evaluation.monitor}"]
    why = paragraph(text(f"{run.metrics['chosen']}.", 1000))
    return section("How the settings were chosen", why, table(header, rows, 2) if rows else "")
