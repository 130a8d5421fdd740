"""ALS and BPR of implicit: `python -m benchmarks.implicit.driver JOB`; runs in .venv-implicit, without tf_hqgnn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking

from benchmarks.peers.job import Job, Split, matrix_of, versions_of


def main() -> None:
    job = Job.load(Path(sys.argv[1]))
    split = Split.load(job.split)
    settings = {**job.settings, "random_state": job.seed}
    if job.epochs is not None:
        settings["iterations"] = job.epochs
    kind = {"implicit-als": AlternatingLeastSquares, "implicit-bpr": BayesianPersonalizedRanking}[job.model]
    with job.measure():
        model = kind(**settings)
        model.fit(matrix_of(split), show_progress=False)
    # BPR has a column for an item's bias, and ones for users.
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    job.save_rows(users, items)
    job.finish(
        item_bytes=4.0 * items.shape[1],
        versions=versions_of("implicit", "numpy"),
        epochs=model.iterations,
        best_epoch=model.iterations,
    )


if __name__ == "__main__":
    main()
