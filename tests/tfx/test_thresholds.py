import math
import re

import pytest
from pydantic import ValidationError

from tf_hqgnn.tfx.thresholds import Thresholds, advice, judge, lift


def _evaluation(ndcg=0.2, popularity=0.1, ann_recall=1.0, data="a", **others):
    return {
        "num_users": 5,
        "metrics": {"ndcg@20": ndcg, "recall@20": 0.3},
        "popularity": {"ndcg@20": popularity},
        "ann_recall@20": ann_recall,
        "data_fingerprint": data,
        **others,
    }


def test_a_model_that_meets_every_threshold_is_blessed():
    verdict = judge(_evaluation(), Thresholds(min_lift=2, min_ndcg=0.2, min_ann_recall=1), None)
    assert verdict.blessed
    assert verdict.reasons == ()
    assert verdict.baseline == "no model was blessed before"


@pytest.mark.parametrize(
    ("evaluation", "thresholds", "reason"),
    [
        (
            {},
            {"min_lift": 2.5},
            r"NDCG@20 0.2000 is 2.00 times that of the popularity baseline \(0.1000\); at least",
        ),
        ({}, {"min_ndcg": 0.21}, r"NDCG@20 0.2000 is below 0.21 \(min_ndcg\)"),
        ({"ann_recall": 0.8}, {}, r"finds 80.0% of the exact model's 20 first items; at least 90.0% is asked"),
        ({"ndcg": math.nan}, {}, "ndcg@20 is nan, not a finite number"),
        ({"num_users": 0}, {}, "no user has a test item"),
    ],
)
def test_each_threshold_refuses_with_its_reason(evaluation, thresholds, reason):
    verdict = judge(_evaluation(**evaluation), Thresholds(**thresholds), None)
    assert not verdict.blessed
    assert len(verdict.reasons) == 1
    assert re.search(reason, verdict.reasons[0])


def test_all_reasons_are_given():
    verdict = judge(_evaluation(ann_recall=0.1), Thresholds(min_lift=9, min_ndcg=1), None)
    assert [reason.rpartition("(")[2] for reason in verdict.reasons] == ["min_lift)", "min_ndcg)", "min_ann_recall)"]


def test_a_drop_within_the_tolerance_passes_and_one_beyond_does_not():
    thresholds = Thresholds(max_drop=0.1)
    assert judge(_evaluation(ndcg=0.18), thresholds, _evaluation()).blessed
    verdict = judge(_evaluation(ndcg=0.179), thresholds, _evaluation())
    assert verdict.reasons == (
        "NDCG@20 0.1790, the last blessed model had 0.2000 on the same data: a drop of more than 10.0% (max_drop)",
    )


def test_a_drop_has_a_way_on():
    dropped = judge(_evaluation(ndcg=0.1), Thresholds(), _evaluation()).reasons[0]
    assert advice(dropped).startswith(" If stock or the log changed")
    assert "--max-drop SHARE" in advice(dropped)
    assert "--max-slice-drop" not in advice(dropped)
    assert advice("NDCG@20 0.1 is below 0.2 (min_ndcg)") == ""


def test_on_other_data_lifts_are_compared():
    # Half the NDCG, but popularity has half of its own, too: a harder day, not a worse model.
    harder = _evaluation(ndcg=0.1, popularity=0.05, data="b")
    verdict = judge(harder, Thresholds(), _evaluation())
    assert verdict.blessed
    assert verdict.baseline == "lift over popularity 2.0000, the last blessed model had 2.0000 on other data"
    assert not judge(_evaluation(ndcg=0.15, data="b"), Thresholds(), _evaluation()).blessed


def test_lift_where_popularity_finds_nothing():
    assert lift({"ndcg@20": 0.1}, {"ndcg@20": 0.0}) == math.inf
    assert lift({"ndcg@20": 0.0}, {"ndcg@20": 0.0}) == 0


@pytest.mark.parametrize("setting", [{"min_lift": -1}, {"min_ndcg": 1.5}, {"max_drop": 2}, {"min_recall": 1}])
def test_thresholds_are_strict(setting):
    with pytest.raises(ValidationError):
        Thresholds(**setting)


class TestSlices:
    def _slice(self, name, ndcg, baseline, users=100, excess=None, error=0.001):
        excess = ndcg - 0.9 * baseline if excess is None else excess
        figures = {"ndcg": ndcg, "baseline_ndcg": baseline, "excess": excess, "excess_error": error}
        return {"name": name, "num_users": users, **figures}

    def _compared(self, *slices, overall=(0.2, 0.2)):
        everyone = self._slice("all users", *overall)
        return _evaluation(comparison={"note": "re-evaluated", "slices": [everyone, *slices]})

    def test_the_models_are_compared_on_todays_split_whatever_they_had_on_their_own(self):
        # Of other data, and with a higher lift then: neither counts.
        verdict = judge(self._compared(overall=(0.2, 0.21)), Thresholds(), _evaluation(ndcg=0.9, data="b"))
        assert verdict.blessed
        assert verdict.baseline == "NDCG@20 0.2000, the last blessed model has 0.2100, re-evaluated"
        worse = judge(self._compared(overall=(0.2, 0.22)), Thresholds(), _evaluation(ndcg=0.1, data="b"))
        assert [reason.rpartition("(")[2] for reason in worse.reasons] == ["max_drop)"]

    def test_a_worse_slice_is_named(self):
        verdict = judge(self._compared(self._slice("cold users", 0.08, 0.1)), Thresholds(), _evaluation())
        assert verdict.reasons == (
            "cold users, 100 users: NDCG@20 0.0800, the last blessed model has 0.1000: a drop of more than 10.0% "
            "(max_slice_drop)",
        )

    @pytest.mark.parametrize(
        "part",
        [
            {"ndcg": 0.09, "baseline": 0.1},
            {"ndcg": 0.0, "baseline": 0.1, "users": 29},
            {"ndcg": 0.08, "baseline": 0.1, "error": 0.0051},
        ],
        ids=["within the tolerance", "too few users", "within two standard errors"],
    )
    def test_what_may_be_chance_is_not_judged(self, part):
        assert judge(self._compared(self._slice("cold items", **part)), Thresholds(), _evaluation()).blessed

    def test_without_a_comparison_the_figures_of_then_stand_and_the_reason_is_told(self):
        evaluation = _evaluation(comparison={"note": "the model is gone", "slices": []})
        verdict = judge(evaluation, Thresholds(), _evaluation())
        assert verdict.baseline.endswith("had 0.2000 on the same data (the model is gone)")

    @pytest.mark.parametrize(("found", "users", "blessed"), [(0.7, 99, False), (0.7, 9, True), (0.79, 99, True)])
    def test_scann_must_find_the_items_of_every_slice(self, found, users, blessed):
        part = {"name": "cold items", "ann_recall": found, "ann_recall_error": 0.01, "ann_users": users}
        verdict = judge(_evaluation(slices=[part]), Thresholds(), None)
        assert verdict.blessed == blessed
        if not blessed:
            assert verdict.reasons[0].startswith("cold items: the ScaNN model finds 70.0% of the exact model's 20")
