"""What is compared: the two parts of the benchmark, their data, and each way to estimate a gradient as settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cells import ROOT

_DATA = ROOT.parent / "shared" / "data"
DATA = {
    "ml-100k": (f"data.path={_DATA / 'ml-100k' / 'interactions.csv'}",),
    "lastfm": (f"data.path={_DATA / 'lastfm' / 'interactions.csv'}",),
    "citeulike": (f"data.path={_DATA / 'citeulike' / 'interactions.csv'}",),
    "beauty": (f"data.path={_DATA / 'beauty' / 'interactions.csv'}", "data.k_core=5"),
    "gowalla": (
        f"data.train_path={_DATA / 'gowalla' / 'train.csv'}",
        f"data.test_path={_DATA / 'gowalla' / 'test.csv'}",
        "training.max_epochs=40",
        "training.evaluate_every=4",
    ),
}
BASELINE = "ste"
BITS = (1, 2)


@dataclass(frozen=True)
class Part:
    """A setting in which estimators are compared.

    Args:
      models: the configs that it knows, by the name of the model.
      data: what it runs on unless it is told otherwise.
      k: the cut-off of its metrics.
      settings: by the number of bits, what all its cells have in common.
    """

    models: dict[str, str]
    data: tuple[str, ...]
    k: int
    settings: Callable[[int], tuple[str, ...]]


def _scratch(bits: int) -> tuple[str, ...]:
    # The paper's: both sides alike, one learned range for each, and no training in full precision before.
    return (
        f"quantization.user_bits={bits}",
        "quantization.method=fine_tuning",
        "quantization.start=scratch",
        "quantization.mode=per_tensor",
        "quantization.range_learning_rate=1",
        "quantization.learning_rate=0.01",
        "quantization.schedule=cosine",
        "quantization.max_epochs=25",
        "quantization.monitor=ndcg@50",
        "training.batch_size=1024",
    )


def _distillation(_bits: int) -> tuple[str, ...]:
    # Codes that were fitted first hardly move any more, whatever the estimator.
    fixed = "quantization.distillation.fit_rounds=0"
    return ("quantization.user_bits=8", "quantization.method=distillation", fixed)


PARTS = {
    "scratch": Part(
        {"lightgcn": "hqgnn_lightgcn.yaml", "ngcf": "hqgnn_ngcf.yaml"}, ("ml-100k", "lastfm"), 50, _scratch
    ),
    "distillation": Part({"lightgode": "default.yaml"}, ("ml-100k", "lastfm", "citeulike"), 20, _distillation),
}


def variant_settings(variant: str, part: str, bits: int) -> tuple[str, ...]:
    """The settings of a way to estimate gradients.

    Args:
      variant: of `VARIANTS`.
      part: of `PARTS`.
      bits: per value of an item.
    """
    settings = VARIANTS[variant](bits)
    # A loss of pairs has the diagonal of its Hessian by probes only.
    by_parts = any(setting.startswith("quantization.delta_per=") for setting in settings)
    return (*settings, "quantization.trace=hutchinson") if by_parts and part == "scratch" else settings


VARIANTS: dict[str, Callable[[int], tuple[str, ...]]] = {
    "ste": lambda _bits: ("quantization.estimator=ste",),
    "gste": lambda _bits: ("quantization.estimator=gste",),
    # A value halfway between two levels has its gradient changed by a tenth.
    "ewgs": lambda bits: ("quantization.estimator=ewgs", f"quantization.delta={0.2 * (2**bits - 1)}"),
    "lsq": lambda _bits: ("quantization.estimator=lsq",),
    "reste": lambda _bits: ("quantization.estimator=reste",),
    "stochastic": lambda _bits: ("quantization.estimator=stochastic",),
    "gste-averaged": lambda _bits: ("quantization.estimator=gste", "quantization.delta_batches=4"),
    "gste-column": lambda _bits: ("quantization.estimator=gste", "quantization.delta_per=column"),
    "gste-row": lambda _bits: ("quantization.estimator=gste", "quantization.delta_per=row"),
    # Of distillation only: what is learned, and what is done with the codes once they are.
    "gste-order": lambda _bits: ("quantization.estimator=gste", "quantization.distillation.target=order"),
    "gste-fitted": lambda _bits: ("quantization.estimator=gste", "quantization.distillation.fit_scales=true"),
}
# Those that are compared unless told otherwise: the paper's claim and its rivals.
RIVALS = ("ste", "gste", "ewgs", "lsq", "reste", "stochastic")
