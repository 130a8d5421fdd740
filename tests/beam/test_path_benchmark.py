"""The report of what a path takes: sums, slopes and shares that are worked out by hand."""

from benchmarks.cells import Cells
from benchmarks.path import _COLUMNS, _KEY, PARTS, report


def test_the_report_adds_up(tmp_path):
    cells = Cells(tmp_path / "path.csv", _KEY, _COLUMNS)
    shared = {"columns": 10, "products": 2, "machine": "2 cores, x86_64, load 1.5", "commit": "abc"}
    shared |= {"users": 1, "items": 1}
    shared |= {f"{kind}_bytes": 5 * 10**8 for kind in ("worker", "python", "engine", "driver")}
    for interactions, seconds in ((1000, 2.0), (10_000, 200.0)):
        for part in PARTS:
            # Two products of 1,000 pairs, ten columns and four bytes are 80 kB, of which a quarter is moved.
            found = {"seconds": 1.0, "cpu_seconds": seconds, "shuffled_bytes": 20_000.0}
            cells.add({"engine": "flink", "interactions": interactions, "part": part, **shared, **found})
    whole = {"seconds": 3.0, "cpu_seconds": 4.0, "shuffled_bytes": "nan", "worker_bytes": 0, "products": 0}
    cells.add({"engine": "none", "interactions": 1000, "part": "train", **shared, **whole})
    lines = report(tmp_path / "path.csv").splitlines()
    # Generating the log is no part of the path.
    assert lines[2:5] == [
        "| flink | 1,000 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 5.0 | 10.0 | 0.1 | 0.50 | 0.50 |",
        "| flink | 10,000 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 5.0 | 1,000.0 | 0.1 | 0.50 | 0.50 |",
        "| none | 1,000 |  |  |  |  |  | 3.0 | 4.0 |  |  | 0.50 |",
    ]
    assert lines[6:] == [
        "flink, 1,000: products shuffle 0.02 MB; pairs x columns x 4 bytes are 0 MB.",
        "flink, 10,000: products shuffle 0.02 MB; pairs x columns x 4 bytes are 1 MB.",
        "flink: processor seconds grow as interactions^2.00 from 1,000 on.",
        "Machine: 2 cores, x86_64; load when a run began 1.5 to 1.5.",
        "Commits: abc.",
    ]
