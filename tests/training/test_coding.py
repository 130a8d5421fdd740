"""Codes in a run: each method, what is logged and kept, and a fine-tuning that dies half-way."""

import csv
import dataclasses

import numpy as np
import pytest

from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training import coding
from tf_hqgnn.training.train import train

BPR = ("loss.name=bpr", "propagation.solver=none", "propagation.normalize=false", "training.evaluate_every=3")


def settings(*overrides):
    return Config.from_yaml(
        "model: {embedding_dim: 16}\n"
        "training: {batch_size: 512, learning_rate: 0.01, max_epochs: 3, steps_per_execution: 4}",
        ("training.checkpoint_seconds=0", *overrides),
    )


def fine_tuning(*overrides):
    chosen = ("quantization.bits=1", "quantization.method=fine_tuning", "quantization.max_epochs=4")
    return settings(*BPR, *chosen, "quantization.learning_rate=0.01", *overrides)


def history(run_dir):
    with (run_dir / "quantization" / "history.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.parametrize("user_bits", [8, None])
def test_post_training_codes_are_the_rounded_rows(dataset, tmp_path, user_bits):
    config = settings(
        "quantization.bits=4",
        f"quantization.user_bits={'null' if user_bits is None else user_bits}",
        "quantization.method=post_training",
    )
    result = train(dataset, config, tmp_path / "run")
    run = RunDirectory.load(tmp_path / "run")
    np.testing.assert_array_equal(
        run.coded.items.dequantize(), Codes.quantize(run.item_embeddings, num_bits=4).dequantize()
    )
    users, _ = run.coded.dequantize()
    if user_bits is None:
        np.testing.assert_array_equal(users, run.user_embeddings)
    else:
        np.testing.assert_allclose(users, run.user_embeddings, atol=np.abs(run.user_embeddings).max() / 200)
    found = run.evaluate("valid", (10, 20, 50))
    assert found.metrics.values == pytest.approx(result.valid, abs=1e-9)
    assert found.full_precision.values == pytest.approx(result.full_precision, abs=1e-9)
    assert result.valid != result.full_precision


def test_per_tensor_codes_share_one_range_of_three_standard_deviations():
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, 8)).astype(np.float32) for n in (30, 40))
    config = QuantizationConfig(bits=2, user_bits=3, mode="per_tensor")
    coded = coding.post_training_codes(users, items, config)
    assert (coded.users.num_bits, coded.items.num_bits) == (3, 2)
    for rows, codes in ((users, coded.users), (items, coded.items)):
        assert codes.scale == pytest.approx(3 * np.sqrt(np.square(rows).mean()), rel=1e-3)


def test_distillation_is_never_worse_on_the_validation_split_than_rounding(dataset, tmp_path):
    overrides = ("quantization.bits=1", "quantization.distillation.max_epochs=3")
    distilled = train(dataset, settings(*overrides), tmp_path / "distilled")
    rounded = train(dataset, settings(*overrides, "quantization.method=post_training"), tmp_path / "rounded")
    assert distilled.full_precision == rounded.full_precision
    assert distilled.valid["ndcg@20"] > rounded.valid["ndcg@20"]
    rows = history(tmp_path / "distilled")
    assert len(rows) == 3
    assert all(row["delta_items"] > 0 for row in rows[1:])


def test_fine_tuning_logs_delta_and_keeps_the_best_epoch(dataset, tmp_path):
    result = train(dataset, fine_tuning(), tmp_path / "run")
    rows = history(tmp_path / "run")
    assert len(rows) == 4
    for row in rows:
        assert 0 < row["delta_items"] <= 1.8
        assert 0 < row["delta_users"] <= 1.8 * 255
    start = coding.post_training_codes(
        *(getattr(RunDirectory.load(tmp_path / "run"), f"{side}_embeddings") for side in ("user", "item")),
        fine_tuning().quantization,
    )
    run = RunDirectory.load(tmp_path / "run")
    rounded = dataclasses.replace(run, coded=start).evaluate("valid", (20,)).metrics.values["ndcg@20"]
    best = max(rounded, *(row["valid_ndcg@20"] for row in rows))
    assert result.valid["ndcg@20"] == pytest.approx(best, abs=1e-9)
    assert run.coded.items.num_bits == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ("quantization.estimator=ste",),
        ("quantization.estimator=ewgs", "quantization.delta=0.5"),
        ("quantization.mode=per_tensor", "quantization.symmetric=false"),
        ("quantization.user_bits=null", "quantization.trace=hutchinson", "quantization.trace_probes=4"),
        ("loss.name=softmax", "quantization.trace=hutchinson", "quantization.trace_probes=4"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_kind_of_fine_tuning_moves_the_codes(dataset, tmp_path, overrides):
    train(dataset, fine_tuning("quantization.max_epochs=1", "quantization.bits=2", *overrides), tmp_path / "run")
    (row,) = history(tmp_path / "run")
    assert np.isfinite(list(row.values())).all()
    run = RunDirectory.load(tmp_path / "run")
    assert isinstance(run.coded.users, Codes) == ("quantization.user_bits=null" not in overrides)


def test_an_interrupted_fine_tuning_goes_on_to_the_same_codes(dataset, tmp_path, monkeypatch):
    config = fine_tuning("quantization.refresh_every=2")
    train(dataset, config, tmp_path / "whole")

    class Killed(Exception):
        pass

    def die(self, epoch, logs=None):
        if epoch == 3:
            raise Killed
        refresh(self, epoch, logs)

    refresh = coding._RefreshDelta.on_epoch_begin
    with monkeypatch.context() as patched:
        patched.setattr(coding._RefreshDelta, "on_epoch_begin", die)
        with pytest.raises(Killed):
            train(dataset, config, tmp_path / "resumed")
    train(dataset, config, tmp_path / "resumed", resume=True)
    whole, resumed = (RunDirectory.load(tmp_path / name) for name in ("whole", "resumed"))
    np.testing.assert_array_equal(whole.coded.items.packed, resumed.coded.items.packed)
    np.testing.assert_array_equal(whole.coded.users.packed, resumed.coded.users.packed)
    assert [row["delta_items"] for row in history(tmp_path / "whole")] == [
        row["delta_items"] for row in history(tmp_path / "resumed")
    ]


def test_a_log_without_validation_keeps_the_last_epoch(dataset, tmp_path):
    empty = dataset.valid.__class__(np.zeros(0, np.int32), np.zeros(0, np.int32))
    without = dataclasses.replace(dataset, valid=empty)
    for name, config in (
        ("tuned", fine_tuning("quantization.max_epochs=2")),
        ("distilled", settings("quantization.bits=2", "quantization.distillation.max_epochs=2")),
    ):
        result = train(without, config, tmp_path / name)
        assert (result.valid, result.full_precision) == ({}, {})
        assert len(history(tmp_path / name)) == 2


@pytest.mark.parametrize("users", [None, 3], ids=["float32", "codes"])
def test_coded_embeddings_round_trip(tmp_path, users):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(5, 6)).astype(np.float32)
    coded = CodedEmbeddings(rows if users is None else Codes.quantize(rows, users), Codes.quantize(rows[:3], 2))
    coded.save(tmp_path)
    for before, after in zip(coded.dequantize(), CodedEmbeddings.load(tmp_path).dequantize()):
        np.testing.assert_array_equal(before, after)


def test_coded_embeddings_of_two_dimensions_are_refused():
    rows = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="one dimension, got 3 and 2"):
        CodedEmbeddings(rows, Codes.quantize(rows[:, :2], 1))
