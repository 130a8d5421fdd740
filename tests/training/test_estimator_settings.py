"""Settings by which codes are trained: what each one does to a training, and what is logged of it."""

import csv

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.core.util import event_pb2

from tf_hqgnn.config import Config, DistillationConfig, QuantizationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.factory import make_model, make_quantizers
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.report.page import render_report
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.code_logs import CodeHistory, flipped_share
from tf_hqgnn.training.distillation import distill
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError, Interactions

EPOCHS = 4
SCRATCH = (
    "model.embedding_dim=8",
    "model.initializer=random",
    "model.encoder=ngcf",
    "model.num_layers=1",
    "loss.name=bpr",
    "training.max_epochs=1",
    "propagation.solver=none",
    "propagation.normalize=false",
    "quantization.bits=1",
    "quantization.user_bits=1",
    "quantization.method=fine_tuning",
    "quantization.start=scratch",
    "quantization.mode=per_tensor",
    "quantization.output_scale=true",
    "quantization.range_learning_rate=1",
    "quantization.learning_rate=0.02",
    "quantization.schedule=cosine",
    "quantization.monitor=recall@10",
    "quantization.delta_per=column",
    "quantization.trace=hutchinson",
    "quantization.trace_probes=2",
    "quantization.delta_batches=2",
    "quantization.first_refresh=1",
    "quantization.refresh_every=2",
    f"quantization.max_epochs={EPOCHS}",
)


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """The paper's setting: NGCF with one bit on both sides and one range each, from tables that are new."""
    path = tmp_path_factory.mktemp("scratch") / "run"
    train(dataset, Config().with_values(dict(text.split("=") for text in SCRATCH)), path)
    return RunDirectory.load(path)


@pytest.fixture(scope="module")
def history(run):
    with (run.path / "quantization" / "history.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_every_epoch_tells_what_quantizers_do(history):
    assert len(history) == EPOCHS
    for side in ("users", "items"):
        assert 0 < history[0][f"flipped_{side}"] < 1
        assert all(0 <= row[f"flipped_{side}"] < 1 for row in history)
        # Straight-through until the second epoch.
        assert history[0][f"delta_{side}"] == history[0][f"gradient_change_{side}"] == 0
        assert history[1][f"delta_{side}"] > 0
        assert 0 < history[1][f"gradient_change_{side}"] < 1
        low, middle, high = (history[1][f"delta_{side}_{name}"] for name in ("low", "median", "high"))
        assert 0 <= low <= middle <= high <= 1.8
        assert history[1][f"trace_{side}_error"] > 0
        # Found in the second and fourth epoch alone.
        assert history[2][f"delta_{side}"] == pytest.approx(history[1][f"delta_{side}"])
        assert f"trace_{side}" not in history[2]
        assert f"trace_{side}" in history[3]


def test_the_epoch_with_the_best_recall_is_kept(run, history):
    best = max(row["valid_recall@10"] for row in history)
    found = run.evaluate("valid", (10,)).metrics.values["recall@10"]
    assert found >= best - 1e-9


def test_both_sides_have_one_bit_and_one_learned_scale(run):
    for codes in (run.coded.users, run.coded.items):
        assert (codes.num_bits, codes.scale.shape, codes.offset) == (1, (1,), None)


def scalars(folder):
    """By tag, the steps that a TensorBoard log has a value for."""
    found = {}
    for path in folder.glob("*tfevents*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, set()).add(event.step)
    return found


def test_tensorboard_and_report_show_it(run):
    steps = scalars(run.path / "quantization" / "tensorboard")
    every = set(range(1, EPOCHS + 1))
    for name in ("flipped_items", "gradient_change_users", "delta_items"):
        assert steps[name] == every
    assert steps["trace_items"] == steps["delta_items_high"] == {2, 4}
    html = render_report(run)
    for caption in ("share of bits that flip", "bends gradients", "trace of the hessian", "delta"):
        assert caption in html.lower()


def test_distillation_writes_its_log_anew(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "old.tfevents.1").write_bytes(b"")
    history = CodeHistory(tmp_path, max_epochs=2)
    for epoch in (1.0, 2.0):
        history.write({"epoch": epoch, "flipped_items": 0.25})
    history.close()
    assert scalars(tmp_path / "tensorboard") == {"epoch": {1, 2}, "flipped_items": {1, 2}}
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_flipped_bits_are_counted_over_all_bits():
    rows = np.linspace(-1, 1, 24).reshape(3, 8)
    before = Codes.quantize(rows, 2)
    values = before.unpack()
    values[1, 2] ^= 3
    values[0, 0] ^= 1
    changed = Codes.quantize(values / 3 * 2 - 1, 2, ranges=(np.full(1, -1.0), np.full(1, 1.0)))
    np.testing.assert_array_equal(changed.unpack(), values)
    assert flipped_share(before, changed) == 3 / 48
    assert flipped_share(before, before) == 0.0


def rates_of(*settings):
    log = Interactions(np.array([0, 1, 2, 2], np.int32), np.array([0, 1, 2, 0], np.int32))
    graph = InteractionGraph.from_interactions(log, num_users=3, num_items=3)
    values = {
        "quantization.bits": 1,
        "quantization.mode": "per_tensor",
        "quantization.learning_rate": 0.02,
        "training.batch_size": 2,
        **dict(settings),
    }
    config = Config().with_values(values)
    return make_model(config, graph, make_quantizers(config.quantization)).optimizer


def test_ranges_have_a_learning_rate_of_their_own():
    assert rates_of(("quantization.range_learning_rate", 1)).factors == dict.fromkeys(("alpha", "beta", "scale"), 1.0)
    absolute = rates_of(("quantization.range_learning_rate", 1), ("quantization.absolute_range_rate", True))
    assert absolute.factors["beta"] * float(absolute.learning_rate) == pytest.approx(1.0)


def test_the_learning_rate_of_fine_tuning_falls_along_a_cosine():
    optimizer = rates_of(("quantization.schedule", "cosine"), ("quantization.max_epochs", 5))
    schedule = tf_keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    # Two steps an epoch.
    for step in (0, 3, 10):
        assert float(schedule(step)) == pytest.approx(0.01 * (1 + np.cos(np.pi * step / 10)), abs=1e-7)
    assert float(rates_of().learning_rate) == pytest.approx(0.02)


NUM_USERS, NUM_ITEMS, DIM = 40, 30, 8


@pytest.fixture(scope="module")
def tables():
    random = np.random.default_rng(0)
    return tuple(random.normal(size=(n, DIM)).astype(np.float32) for n in (NUM_USERS, NUM_ITEMS))


NOTHING = np.zeros(NUM_USERS + 1, np.int64), np.zeros(0, np.int32)


def distilled(tables, epochs=2, validate=None, **values):
    schedule = {
        # Fitted codes hardly move any more.
        "fit_rounds": 0,
        "max_epochs": epochs,
        "batch_size": 16,
        "evaluate_every": 1,
        "learning_rate": 1.0,
        **values.pop("distillation", {}),
    }
    config = QuantizationConfig(bits=1, distillation=DistillationConfig(**schedule), **values)
    logs = []
    return distill(*tables, NOTHING, config, 1, validate, logs.append), logs


@pytest.mark.parametrize(
    ("values", "bends"),
    [
        ({"estimator": "stochastic"}, False),
        ({"estimator": "lsq", "mode": "per_tensor", "output_scale": True}, False),
        ({"estimator": "reste"}, True),
        ({"delta_per": "row", "delta_batches": 3, "user_bits": 1}, True),
        ({"delta_per": "column", "trace": "hutchinson", "trace_probes": 2}, True),
        ({"distillation": {"target": "order", "top_items": 5}}, True),
    ],
    ids=str,
)
def test_every_way_to_distil_moves_the_codes_and_tells_how(tables, values, bends):
    coded, logs = distilled(tables, **values)
    assert np.isfinite(coded.dequantize()[1]).all()
    assert 0 < logs[0]["flipped_items"] < 1
    # ReSTE begins as STE.
    assert (logs[-1]["gradient_change_items"] > 0) == bends
    if "delta_batches" in values:
        assert logs[0]["trace_items_error"] > 0


def test_straight_through_epochs_come_before_the_first_delta(tables):
    _, logs = distilled(tables, epochs=4, first_refresh=2)
    assert [row["delta_items"] > 0 for row in logs] == [False, False, True, True]


def test_fitted_scales_are_kept_where_they_validate_better_only(tables):
    plain, _ = distilled(tables, validate=lambda _users, _items: 0.5)
    seen = []

    def last_is(value):
        seen.clear()

        def validate(_users, items):
            seen.append(items)
            # Three starts and two epochs come before.
            return value if len(seen) == 6 else 0.5

        return validate

    fitted, _ = distilled(tables, validate=last_is(1.0), distillation={"fit_scales": True})
    assert len(seen) == 6
    np.testing.assert_array_equal(fitted.items.packed, plain.items.packed)
    assert np.any(fitted.items.scale != plain.items.scale)
    users = plain.dequantize()[0]
    for coded, decoded, item in zip(fitted.items.dequantize(), plain.items.dequantize(), tables[1]):
        scores = users @ decoded
        factor = max(scores @ (tables[0] @ item) / (scores @ scores), 0.0)
        np.testing.assert_allclose(coded, factor * decoded, rtol=2e-3, atol=1e-4)
    kept, _ = distilled(tables, validate=last_is(0.4), distillation={"fit_scales": True})
    np.testing.assert_array_equal(kept.items.scale, plain.items.scale)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{output_scale: true}", "output_scale needs mode: per_tensor"),
        ("{start: scratch}", "start: scratch needs method: fine_tuning, got distillation"),
        ("{method: fine_tuning, delta_per: row}", "delta_per: row needs the diagonal of the Hessian.*hutchinson"),
        ("{estimator: reste, delta: 2}", "delta must be above 0 with the estimator ewgs, and 0 otherwise; got 2"),
        ("{monitor: recall@7}", r"quantization.monitor recall@7 is at a cut-off that isn't computed.*evaluation.k"),
        ("{monitor: auc}", "monitor"),
    ],
)
def test_settings_that_do_not_fit_each_other(text, message):
    with pytest.raises(InputError, match=message):
        Config.from_yaml(f"quantization: {text}")
