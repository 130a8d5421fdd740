"""The report of what a path takes: sums, slopes and shares that are worked out by hand."""

from benchmarks.cells import Cells
from benchmarks.path import _COLUMNS, _KEY, PARTS, report


def test_the_report_adds_up(tmp_path):
    cells = Cells(tmp_path / "path.csv", _KEY, _COLUMNS)
    shared = {"columns": 10, "products": 2, "machine": "2 cores", "commit": "abc", "users": 1, "items": 1}
    shared |= {f"{kind}_bytes": 5 * 10**8 for kind in ("worker", "python", "engine", "driver")}
    for interactions, seconds in ((1000, 2.0), (10_000, 200.0)):
        for part in PARTS:
            # Two products of 1,000 pairs, ten columns and four bytes are 80 kB, of which a quarter is moved.
            found = {"seconds": 1.0, "cpu_seconds": seconds, "shuffled_bytes": 20_000.0}
            cells.add({"engine": "flink", "interactions": interactions, "part": part, **shared, **found})
    lines = report(tmp_path / "path.csv").splitlines()
    assert lines[2] == "| flink | 1,000 | generate | 1.0 | 2.0 | 0.0 | 0.50 |"
    assert lines[-3:] == [
        "flink, 1,000: 12.0 processor seconds; peaks of memory: worker 0.50 GB, python 0.50 GB, engine 0.50 GB, "
        "driver 0.50 GB; products shuffle 25.00% of pairs x columns x 4 bytes (2 cores).",
        "flink, 10,000: 1,200.0 processor seconds; peaks of memory: worker 0.50 GB, python 0.50 GB, engine 0.50 GB, "
        "driver 0.50 GB; products shuffle 2.50% of pairs x columns x 4 bytes (2 cores).",
        "flink: processor seconds grow as interactions^2.00 from 1,000 on.",
    ]
