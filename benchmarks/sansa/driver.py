"""Trains SANSA, a sparse EASE: `python -m benchmarks.sansa.driver JOB`; runs in .venv-sansa, without tf_hqgnn.

Numba compiles SANSA's two loops when they are imported, so the measured time is that of the fit.

Reference:
  Spišák et al., "Scalable Approximate NonSymmetric Autoencoder for Collaborative Filtering", RecSys 2023.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
from sansa import (
    SANSA,
    CHOLMODGramianFactorizerConfig,
    ICFGramianFactorizerConfig,
    SANSAConfig,
    UMRUnitLowerTriangleInverterConfig,
)

from benchmarks.peers.job import Job, Split, matrix_of, versions_of

_FACTORIZERS = {"CHOLMOD": CHOLMODGramianFactorizerConfig, "ICF": ICFGramianFactorizerConfig}


def main() -> None:
    logging.disable(logging.WARNING)
    job = Job.load(Path(sys.argv[1]))
    split = Split.load(job.split)
    matrix, settings = matrix_of(split), job.settings
    config = SANSAConfig(
        l2=settings["l2"],
        weight_matrix_density=settings["weight_matrix_density"],
        gramian_factorizer_config=_FACTORIZERS[settings["factorizer"]](),
        lower_triangle_inverter_config=UMRUnitLowerTriangleInverterConfig(
            scans=settings["scans"], finetune_steps=settings["finetune_steps"]
        ),
    )
    with job.measure():
        model = SANSA(config).fit(matrix)

    def scores(users: np.ndarray) -> np.ndarray:
        return model.forward(matrix[users]).toarray()

    job.save_lists(split, scores)
    arrays = [array for weights in model.weights for array in (weights.data, weights.indices, weights.indptr)]
    job.finish(
        item_bytes=sum(array.nbytes for array in arrays) / split.num_items,
        versions=versions_of("sansa", "scikit-sparse", "numpy", "scipy"),
    )


if __name__ == "__main__":
    main()
