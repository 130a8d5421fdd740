"""A loss that only this file knows of is configured, trained with, tuned and reported like the package's own."""

from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from pydantic import Field

from tf_hqgnn.config import Config, LossConfig
from tf_hqgnn.losses.loss import LOSSES, Loss
from tf_hqgnn.report.overview import settings
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.tuning.ranges import search_space
from tf_hqgnn.types import InputError, Registry


class Hinge(Loss):
    """`mean max(0, margin - u.i + u.j)`."""

    reads_lengths: ClassVar[bool] = True
    seen_shapes: ClassVar[list] = []

    margin: float = Field(1.0, gt=0)
    num_negatives: int = Field(2, ge=1)

    @property
    def negatives_per_pair(self):
        return self.num_negatives

    def __call__(self, users, items, negatives, context):
        assert context is None
        self.seen_shapes.append(tuple(negatives.shape))
        positive = tf.reduce_sum(users * items, axis=1, keepdims=True)
        return tf.reduce_mean(tf.nn.relu(self.margin - positive + tf.einsum("bd,bnd->bn", users, negatives)))

    def default_ranges(self):
        return {"margin": {"low": 0.1, "high": 2.0, "log": True}}


@pytest.fixture
def hinge():
    LOSSES.register("hinge")(Hinge)
    yield
    LOSSES.remove("hinge")


@pytest.mark.integration
@pytest.mark.usefixtures("hinge")
def test_it_trains(dataset, smoke_config, tmp_path):
    config = smoke_config.with_values({"loss": {"name": "hinge", "margin": 0.5}, "training.max_epochs": 1})
    Hinge.seen_shapes.clear()
    result = train(dataset, config, tmp_path / "run")
    assert result.epochs == 1
    assert {shape[1] for shape in Hinge.seen_shapes} == {2}
    loss = RunDirectory.load(tmp_path / "run").config.loss
    assert loss.make() == Hinge(margin=0.5, num_negatives=2)
    assert np.isfinite(list(result.valid.values())).all()


@pytest.mark.usefixtures("hinge")
def test_its_settings_are_settings():
    config = Config.from_yaml("loss: {name: hinge}", ("loss.margin=0.25",))
    assert (config.loss.make().margin, config.loss.make().num_negatives) == (0.25, 2)
    assert Config.from_yaml(config.to_yaml()) == config
    with pytest.raises(InputError, match=r"^config: loss\.margin: Input should be greater than 0, got 0"):
        Config.from_yaml("loss: {name: hinge, margin: 0}")
    with pytest.raises(InputError, match=r"unknown setting loss\.marge; known there: name, .*margin"):
        Config.from_yaml("loss: {name: hinge, marge: 0}")
    with pytest.raises(InputError, match="loss hinge has no exact Hessian trace here"):
        Config.from_yaml(
            "{loss: {name: hinge}, propagation: {solver: none, normalize: false}, "
            "quantization: {bits: 1, method: fine_tuning}}"
        )


@pytest.mark.usefixtures("hinge")
def test_it_leaves_no_trace_in_the_settings_of_others():
    assert "margin" not in LossConfig().model_dump()
    assert LossConfig(name="bpr").model_dump()["num_negatives"] == 1


@pytest.mark.usefixtures("hinge")
def test_it_says_what_to_tune_and_to_report():
    config = Config.from_yaml("loss: {name: hinge}")
    assert next(iter(search_space(config))) == "loss.margin"
    assert "hinge, margin 1.0, num negatives 2, weight decay 0" in settings(config)


def test_without_it_the_settings_are_refused():
    with pytest.raises(
        InputError, match=r"loss\.name: expected one of alignment_uniformity, bpr, softmax, got 'hinge'"
    ):
        Config.from_yaml("loss: {name: hinge}")


def test_two_classes_cannot_have_one_name():
    registry = Registry("shape")

    @registry.register("square")
    class Square:
        pass

    assert (registry["square"], Square.name) == (Square, "square")
    registry.register("square")(Square)
    with pytest.raises(ValueError, match="the shape 'square' is registered already"):
        registry.register("square")(Hinge)
