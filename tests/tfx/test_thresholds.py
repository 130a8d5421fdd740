import math
import re

import pytest
from pydantic import ValidationError

from tf_hqgnn.tfx.thresholds import Thresholds, judge, lift


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
