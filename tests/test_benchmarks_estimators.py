"""The comparison of gradient estimators: its statistics, its settings, and a page that says what its cells do."""

import doctest

import numpy as np
import pytest
from scipy import stats

from benchmarks.cells import ROOT
from benchmarks.estimators import page, statistics
from benchmarks.estimators.__main__ import main
from benchmarks.estimators.bench import COLUMNS, summary
from benchmarks.estimators.statistics import compare, holm, visible_effect
from benchmarks.estimators.variants import BASELINE, BITS, DATA, PARTS, RIVALS, VARIANTS, variant_settings
from tf_hqgnn.config import Config
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS


def test_doctests():
    results = doctest.testmod(statistics)
    assert results.attempted
    assert not results.failed


def test_a_comparison_is_the_paired_t_test():
    one, other = np.random.default_rng(0).normal(size=(2, 9))
    found = compare(one - other)
    expected = stats.ttest_rel(one, other)
    interval = expected.confidence_interval(0.95)
    assert (found.p_value, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    assert found.number == 9
    with pytest.raises(ValueError, match="at least 2 pairs are needed for an interval, got 1"):
        compare([0.3])


@pytest.mark.parametrize("number", [3, 10])
def test_the_visible_effect_is_found_in_four_of_five_repetitions(number):
    effect = visible_effect(1 / np.sqrt(number), number - 1)
    samples = np.random.default_rng(0).normal(effect, 1.0, size=(20_000, number))
    assert np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


def test_holm_keeps_the_share_of_false_findings():
    # By hand: .01 * 4, .02 * 3, .03 * 2, and none is smaller than one before it.
    np.testing.assert_allclose(holm([0.03, 0.9, 0.01, 0.02]), [0.06, 0.9, 0.04, 0.06])
    uniform = np.random.default_rng(0).uniform(size=(2000, 6))
    assert np.mean([min(holm(row)) < 0.05 for row in uniform]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("part", PARTS)
def test_every_variant_is_a_config(part):
    for file in PARTS[part].models.values():
        for bits in BITS:
            for variant in VARIANTS:
                settings = (*DATA["ml-100k"], f"quantization.bits={bits}", *PARTS[part].settings(bits))
                config = Config.load(
                    ROOT / "configs" / file, (*settings, *variant_settings(variant, part, bits))
                ).quantization
                assert config.estimator == variant.partition("-")[0]
                assert config.user_bits == (bits if part == "scratch" else 8)
    assert set(ESTIMATORS.names()) == set(RIVALS)


def test_a_history_is_summed_up(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,flipped_items,delta_items,gradient_change_items\n1,0.5,0.1,\n2,0.25,0.3,0.2\n")
    expected = {"epochs": 2, "delta_items": 0.3, "flipped_items": 0.375, "gradient_change_items": 0.2}
    assert summary(path) == {**expected, "gradient_change_users": 0.0}


def cells(seeds, effects):
    """Rows in which an estimator's NDCG is that of ste times 1 + its effect, with noise of .1%."""
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        base = random.uniform(0.2, 0.3)
        for variant, effect in {BASELINE: 0.0, **effects}.items():
            ndcg = base * (1 + effect + (variant != BASELINE) * random.normal(0, 0.001))
            row = dict.fromkeys(COLUMNS, "0.02") | {"part": "scratch", "data": "ml-100k", "model": "lightgcn"}
            row |= {"bits": "1", "seed": str(seed), "variant": variant, "k": "50", "valid_ndcg": str(ndcg)}
            rows.append(
                row
                | {
                    "test_ndcg": str(ndcg),
                    "test_recall": str(2 * ndcg),
                    "machine": "2 cores, x86_64, load 1.0",
                    "commit": "abc",
                }
            )
    return rows


def test_the_page_says_what_holds_and_what_does_not():
    rows = cells(8, {"gste": 0.0, "reste": 0.02, "ewgs": -0.03})
    text = page.markdown(rows)
    assert "Better than `ste`, after the correction: `reste` in scratch, lightgcn, ml-100k, 1 bit (+2." in text
    assert "Worse than `ste`, after the correction: `ewgs`" in text
    assert "`gste` can't be told from `ste`" in text
    assert "Over 8 seeds, validation prefers `reste`." in text
    by_name = {result.variant: result for result in page.results_of(rows)}
    assert by_name["reste"].test.mean == pytest.approx(2, abs=0.2)
    assert by_name["reste"].recall.mean == pytest.approx(by_name["reste"].test.mean)
    assert by_name["gste"].p_value == pytest.approx(by_name["gste"].test.p_value)  # the largest of three
    assert by_name["reste"].p_value == pytest.approx(min(3 * by_name["reste"].test.p_value, 1), rel=1e-6) or by_name[
        "reste"
    ].p_value == pytest.approx(2 * by_name["reste"].test.p_value)


def test_unpaired_cells_and_single_seeds_are_left_out():
    rows = [row for row in cells(3, {"gste": 0.1, "lsq": 0.1}) if (row["variant"], row["seed"]) != (BASELINE, "0")]
    assert {result.test.number for result in page.results_of(rows)} == {2}
    assert page.results_of(cells(1, {"gste": 0.1})) == []


def test_a_run_goes_on_where_it_stopped(log_path, tmp_path, monkeypatch, capsys):
    """Cells that are there aren't measured again, and all say what they were made with."""
    monkeypatch.setitem(DATA, "ml-100k", (f"data.path={log_path}",))
    command = f"run --work {tmp_path} --parts scratch --models lightgcn --data ml-100k --bits 1 --seeds 3"
    command += " --set quantization.max_epochs=1 --set model.embedding_dim=4 --variants"
    shown = []
    for variants in ("ste", "ste reste", "ste reste"):
        monkeypatch.setattr("sys.argv", ["estimators", *command.split(), *variants.split()])
        main()
        shown.append(len(capsys.readouterr().out.splitlines()))
    assert shown == [1, 1, 0]
    first, second = page.read(tmp_path / "cells.csv")
    assert (first["variant"], second["variant"], second["k"], second["epochs"]) == ("ste", "reste", "50", "1")
    assert "quantization.start=scratch" in second["settings"]
    assert 0 < float(first["test_ndcg"]) < 1
    monkeypatch.setattr("sys.argv", ["estimators", *command.split(), "lsq", "--minutes", "0"])
    main()
    assert len(page.read(tmp_path / "cells.csv")) == 2


def test_the_page_is_that_of_the_cells():
    assert page.PAGE.read_text(encoding="utf-8") == page.markdown(page.read(page.CELLS))
