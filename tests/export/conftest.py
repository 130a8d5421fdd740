"""Models that are asked by name, by each index and with several numbers of bits."""

import dataclasses

import numpy as np
import pytest
from export_oracle import coded_bundle, make_bundle, with_several_categories, without_dislikes
from request_oracle import RequestOracle

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann
from tf_hqgnn.export.layout import EXACT_MODEL, ModelSettings
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.serving_module import make_module

CONFIG = ExportConfig(default_k=4)
ASYMMETRIC, SHARED = {"symmetric": False}, {"per_tensor": True}


def nobodies(bundle):
    """A bundle of which every seventh user is known by what it has seen alone."""
    return dataclasses.replace(bundle, known_users=np.arange(len(bundle.user_ids)) % 7 != 6)


# Exported and loaded, by each index; and modules in this process, with codes of every kind.
BUNDLES = {
    "exact": without_dislikes(nobodies(make_bundle())),
    "scann": make_bundle(),
    "1x1": coded_bundle(1, 1, 13),
    "1xfloat": nobodies(coded_bundle(1, None, 13)),
    "2x8": without_dislikes(coded_bundle(2, 8, 12, **ASYMMETRIC)),
    "4x4": coded_bundle(4, 4, 20, **SHARED),
    "8x8": coded_bundle(8, 8, 6, **(ASYMMETRIC | SHARED)),
    "8x8 by blocks": coded_bundle(8, 8, 6),
}


@pytest.fixture(scope="session", params=BUNDLES)
def served(request, tmp_path_factory):
    """`(signatures, oracle)` of a model."""
    bundle, kind = with_several_categories(BUNDLES[request.param]), request.param
    if kind == "exact":
        root = load_saved_model(export_exact(bundle, tmp_path_factory.mktemp(kind), CONFIG, version=1))
        yield root.signatures, RequestOracle(bundle)
    elif kind == "scann":
        leaves = RetrievalConfig(num_leaves=4, num_leaves_to_search=4)
        root = load_saved_model(export_scann(bundle, tmp_path_factory.mktemp(kind), CONFIG, leaves, version=1))
        yield root.signatures, RequestOracle(bundle)
    else:
        with pytest.MonkeyPatch.context() as patch:
            if kind.endswith("by blocks"):
                patch.setattr("tf_hqgnn.retrieval.coded_rows.BY_BLOCKS_FROM", 1)
            root = make_module(bundle, EXACT_MODEL, ModelSettings(CONFIG, RetrievalConfig()))
        yield root.signatures(), RequestOracle(bundle)
    del root
