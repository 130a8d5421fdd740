"""The constructor, its parameters, and what is said before there is a model."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils.validation import check_is_fitted

from tf_hqgnn import Config, InputError, NotFittedError, Recommender
from tf_hqgnn.config.presets import find_config


def test_parameters(settings):
    model = Recommender("spectral", verbose=0, **settings)
    assert model.get_params() == {"config": "spectral", "verbose": 0, "model.embedding_dim": 16}
    assert model.set_params(**{"training.max_epochs": 3, "verbose": 1}) is model
    assert model.get_params()["training.max_epochs"] == 3
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert clone(Recommender(Config())).get_params()["config"] == Config()
    assert repr(model) == "<Recommender spectral, model.embedding_dim=16, training.max_epochs=3>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Recommender("spectrul"),
            "config spectrul: no such file, and no preset of that name; do you mean sp",
        ),
        (
            lambda: Recommender(**{"model.embeding_dim": 3}),
            "unknown setting 'model.embeding_dim'; did you mean 'mo",
        ),
        (lambda: Recommender(max_epoch=3), "unknown setting 'max_epoch'; did you mean 'training.max_epochs'"),
        (lambda: Recommender(verbos=3), "unknown setting 'verbos'; did you mean 'verbose'?"),
        (
            lambda: Recommender(**{"training.max_epochs": "many"}),
            "Recommender: training.max_epochs: Input should",
        ),
        (lambda: Recommender(7), "config: expected a preset, the path of a file or a Config, got 7"),
        (lambda: Recommender().set_params(lr=1), "unknown setting 'lr'; expected section.key"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_given(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_refused_parameters_change_nothing():
    model = Recommender("spectral", verbose=0)
    with pytest.raises(InputError):
        model.set_params(verbose=1, **{"training.max_epochs": -1})
    assert model.get_params() == {"config": "spectral", "verbose": 0}


def test_presets_files_and_configs(log, tmp_path, settings):
    config = Config.load(find_config("spectral")).with_values({"seed": 7})
    (tmp_path / "mine.yaml").write_text("seed: 7\n" + find_config("spectral").read_text())
    of_file = Recommender(tmp_path / "mine.yaml", verbose=0, **{"model.embedding_dim": np.int64(16)}).fit(log)
    assert (of_file.config_.seed, of_file.config_.model.embedding_dim) == (7, 16)
    of_config = Recommender(config, verbose=0, **settings).fit(log)
    assert of_config.config_.model == of_file.config_.model
    # A Config has every setting; only what a file or the caller says is meant.
    # Everything is learnt from, unless the settings say otherwise.
    assert of_file.config_.data.split.test == of_file.config_.data.split.valid == 0
    held = Recommender("spectral", verbose=0, **settings, **{"data.split.test": 0.2}).fit(log)
    assert held.config_.data.split.test == 0.2


def test_before_fit_it_says_so(tmp_path):
    model = Recommender("spectral")
    for ask in (
        lambda: model.recommend([1]),
        lambda: model.recommend("all"),
        lambda: model.similar_items([1]),
        lambda: model.score([1], [1]),
        lambda: model.evaluate(None),
        lambda: model.user_embeddings(),
        lambda: model.save(tmp_path / "run"),
        lambda: model.export(tmp_path),
        lambda: model.add_items(None),
        lambda: model.data_report_,
    ):
        with pytest.raises(NotFittedError, match="call fit with a log first"):
            ask()
    assert issubclass(NotFittedError, ValueError)
    assert issubclass(NotFittedError, AttributeError)
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(model)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        model.nothing  # noqa: B018


def test_after_fit_scikit_learn_sees_it(model):
    check_is_fitted(model)
    assert str(model.data_report_).startswith("3,000 rows read = 3,000 kept + 0 repeats")
    assert model.metrics_["epochs"] == 0
