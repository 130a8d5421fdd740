"""The tables in README files, made from the CSVs in benchmarks/results: `python -m benchmarks.tables [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is that of a CSV (overview is made of peers.csv),
perhaps with `column=value` pairs after it (the value may be several, a,b, or empty), of which its rows must have one
each.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable

from benchmarks import epochs, log_signals, overview, quantization, scale
from benchmarks.ann import __main__ as ann
from benchmarks.cells import ROOT
from benchmarks.gpu import report as gpu
from benchmarks.peers import report as peers

_RESULTS = ROOT / "benchmarks" / "results"
_FILES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "README.md")
_MAKERS: dict[str, Callable[[list[dict[str, str]]], str]] = {
    "ann": ann.markdown,
    "epochs": epochs.markdown,
    "gpu": gpu.markdown,
    "log_signals": log_signals.markdown,
    "overview": overview.markdown,
    "quantization": quantization.markdown,
    "peers": peers.markdown,
    "scale": scale.markdown,
}
# Tables that aren't called after their CSV.
_SOURCES = {"overview": "peers"}
_BLOCK = re.compile(r"(<!-- table: (?P<name>\w+)(?P<filters>(?: [\w-]+=\S*)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    arguments = parser.parse_args()
    stale = []
    for path in _FILES:
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            stale.append(str(path.relative_to(ROOT)))
            if not arguments.check:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(f"{'out of date' if arguments.check else 'updated'}: {', '.join(stale)}", file=sys.stderr)
    sys.exit(1 if stale and arguments.check else 0)


def fill(text: str) -> str:
    """`text` with every table made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_table(found['name'], found['filters'].split())}\n{found[4]}", text)


def _table(name: str, filters: list[str]) -> str:
    if name not in _MAKERS:
        raise SystemExit(f"no table is called {name}; there are {', '.join(_MAKERS)}")
    with (_RESULTS / f"{_SOURCES.get(name, name)}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for pair in filters:
        column, _, value = pair.partition("=")
        rows = [row for row in rows if row[column] in value.split(",")]
    if not rows:
        raise SystemExit(f"results/{name}.csv has no row with {' '.join(filters)}")
    return _MAKERS[name](rows)


if __name__ == "__main__":
    main()
