"""A recommender in memory: `fit` on a log, then `recommend`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_hqgnn.recommender.local_queries import LocalQueries, bad_row_log
from tf_hqgnn.recommender.process_state import own_random_numbers, quieten
from tf_hqgnn.types import InputError, NotFittedError

if TYPE_CHECKING:
    from tf_hqgnn.config import Config, DataConfig
    from tf_hqgnn.data.any_log import LogInput
    from tf_hqgnn.data.report import ReadReport
    from tf_hqgnn.data.split_dataset import SplitDataset
    from tf_hqgnn.recommender.fitted import FittedModel

_log = logging.getLogger(__name__)
_FITTED = ("config_", "data_report_", "metrics_", "added_items_")


class Recommender(LocalQueries):
    """Learn from a log of who took what, and recommend.

    The model learns from the whole log, and never recommends to a user what they took in it. By default settings are
    chosen by a race (`auto.race`): a tenth of each user's interactions is held out, the settings that predict these
    best win, and `metrics_` are measured on them. Then the model is trained once more on the whole log, and this second
    model answers (`training.refit`, which is `all` here by default). A preset without a race holds nothing out, unless
    you set `data.split.valid` or `data.split.test`.

    Ids come back in the type in which they came. Inside they are text: `7` and `"7"` are the same id.

    Args:
      config: the name of a preset such as `auto`, `default` or `spectral`; the path of a file of settings; or a
        `Config`.
      verbose: 1 prints what became of the rows of the log and how the training proceeds; 0 prints nothing.
      settings: settings that override those of `config`, by name: `**{"training.max_epochs": 3}`.

    Attributes:
      config_: the settings that the model was made with.
      data_report_: what became of every row of the log.
      metrics_: what training reported: epochs, seconds and metrics on the validation split, if there is one.
      added_items_: how many items the last `add_items` added, skipped and updated.

    Raises:
      InputError: There is no such preset or setting, or a value is out of range.

    Example:
      >>> import pandas as pd
      >>> log = pd.DataFrame({"user_id": [1, 1, 2, 2, 3], "item_id": ["a", "b", "a", "c", "b"]})
      >>> model = Recommender("spectral", verbose=0, **{"model.embedding_dim": 2}).fit(log)
      >>> model.recommend([3], k=1)[["user_id", "rank", "item_id", "known"]].values.tolist()
      [[3, 1, 'a', True]]
    """

    def __init__(self, config: str | os.PathLike[str] | Config = "auto", verbose: int = 1, **settings: Any) -> None:
        self.config = config
        self.verbose = verbose
        self._settings = settings
        self._model: FittedModel | None = None
        self._resolved()

    def fit(
        self,
        log: Any,
        *,
        valid: Any = None,
        items: Any = None,
        users: Any = None,
        columns: Mapping[str, Any] | None = None,
        run_dir: str | os.PathLike[str] | None = None,
    ) -> Recommender:
        """Learn from a log, and forget what was learnt before.

        Args:
          log: a DataFrame of pandas or polars, or an Arrow table, with `user_id`, `item_id` and maybe `timestamp`,
            `rating`, `weight`, `event`; a scipy sparse matrix, whose row and column numbers are the ids; or the path of
            a log.
          valid: another log, on which epochs and propagation are chosen. It may have users and items that `log` doesn't
            have. Afterwards the model learns from it, too, unless you set `training.refit=False`.
          items: a table or a path with `item_id` and any of `title`, `category`, `available`; or a list of these, which
            are joined by id. Other columns are features (`data.item_features`, which is `auto` here by default): by
            them, items without interactions can be recommended.
          users: a table or a path, or a list of these: `user_id` and features (`data.user_features`).
          columns: the names that columns have in the tables and files, such as `{"user_id": "userId"}`. They override
            the setting `data.columns`.
          run_dir: folder in which to keep the run directory, for the command line; None leaves no files.

        Returns:
          The recommender itself.

        Raises:
          InputError: The log can't be used; one line says why. What was learnt before stays.
        """
        from tf_hqgnn.data.any_log import check_ids, read_any_features, read_any_items, read_log
        from tf_hqgnn.data.column_names import COLUMNS
        from tf_hqgnn.data.loading import join_valid, make_dataset, split_log

        config = self._resolved()
        if isinstance(log, str | os.PathLike):
            config = config.with_values({"data.path": os.fspath(log)})
            if isinstance(columns, Mapping):
                given = {name: str(other) for name, other in columns.items() if name in COLUMNS}
                config = config.with_values({"data.columns": {**config.data.columns, **given}})
        with bad_row_log(config.data) as bad_rows:
            read = read_log(log, "log", config.data, bad_rows, columns)
            if valid is None:
                table, part = split_log(read.table, config.data, config.seed)
            else:
                judge = read_log(valid, "valid", config.data, bad_rows, columns, is_later=True)
                check_ids(judge.table, "valid", read.id_types)
                table, part = join_valid(read.table, judge.table, config.data, bad_rows)
        items = config.data.items_path if items is None else items
        named = _named(config.data, columns)
        about = None if items is None else read_any_items(items, named)
        features = read_any_features(users, items, config.data, named)
        return self._train(make_dataset(table, part, about, features=features), read, config, run_dir=run_dir)

    def partial_fit(
        self,
        new_log: Any,
        *,
        items: Any = None,
        users: Any = None,
        columns: Mapping[str, Any] | None = None,
        run_dir: str | os.PathLike[str] | None = None,
    ) -> Recommender:
        """Train further on a later log, together with everything that was learnt from before.

        Training starts from the embeddings that were learnt and those of new users and items, and takes
        `training.warm_epochs`. If nothing is trained (`training.max_epochs` is 0), all embeddings are made anew.
        Without a validation split the propagation stays as it was chosen. Without an earlier `fit` this is `fit`.

        Args:
          new_log: as `log` of `fit`.
          items: as in `fit`; it replaces what was known of the same items.
          users: as in `fit`; it replaces what was known of the same users.
          columns: as in `fit`.
          run_dir: as in `fit`.

        Raises:
          InputError: The log can't be used. What was learnt before stays.
        """
        if self._model is None:
            return self.fit(new_log, items=items, users=users, columns=columns, run_dir=run_dir)
        from tf_hqgnn.data.any_log import LogInput, check_ids, read_any_features, read_any_items, read_log
        from tf_hqgnn.data.growth import with_features
        from tf_hqgnn.data.loading import extend_dataset
        from tf_hqgnn.data.log_rules import LogRules
        from tf_hqgnn.data.report import BadRowLog

        model = self._model
        config = self._resolved().model_copy(update={"propagation": model.run.config.propagation})
        state = model.trained_state()
        before = state.dataset
        for table, added in model.additions:
            known = None, None if added is None else added.features
            if table is None:
                before = with_features(before, *known)
            else:
                before = extend_dataset(before, table, added, BadRowLog(), features=known)
        with bad_row_log(config.data) as bad_rows:
            read = read_log(new_log, "new_log", config.data, bad_rows, columns, is_later=True)
            check_ids(read.table, "new_log", model.form.id_types)
            named = _named(config.data, columns)
            about = None if items is None else read_any_items(items, named)
            features = read_any_features(users, items, config.data, named, is_later=True)
            dataset = extend_dataset(before, read.table, about, bad_rows, LogRules.of(config.data), features)
        kept = LogInput(read.table, model.form.id_types, model.form.library)
        return self._train(dataset, kept, config, run_dir=run_dir, state=state if config.training.max_epochs else None)

    def add_items(self, log: Any = None, *, items: Any = None, columns: Mapping[str, Any] | None = None) -> Recommender:
        """Add new items without training, as `tf-hqgnn add-items` does.

        A new item's embedding follows from those of the users who took it, from its features where `fit` has learnt
        from such, or from both. What a known user took in the log doesn't come back to it. Known items are withdrawn,
        and return, by the column `available` of `items`. `added_items_` says how many were added, skipped, updated,
        withdrawn and returned.

        Args:
          log: the first interactions of new items, as of `fit`; None where they have none yet.
          items: their titles, categories, availability and features, as of `fit`.
          columns: as of `fit`.

        Returns:
          The recommender itself. `save` keeps the items; what the command line makes of the run doesn't have them.

        Raises:
          InputError: The log can't be used, or there is nothing to change: no new item is of a known user or has known
            features, and none is withdrawn or returns.
          NotFittedError: `fit` comes first.
        """
        from tf_hqgnn.data.any_log import check_ids, read_any_items, read_log
        from tf_hqgnn.data.feature_input import read_features

        model = self._fitted()
        table = about = None
        if log is not None:
            with bad_row_log(model.run.config.data) as bad_rows:
                read = read_log(log, "log", model.run.config.data, bad_rows, columns, pairs_only=True)
                table = read.table.compact()
            check_ids(table, "log", model.form.id_types)
        if items is not None:
            named = _named(model.run.config.data, columns)
            about = read_any_items(items, named)
            if model.bundle.features.items is not None:
                about = replace(about, features=read_features(items, "items", "all", named))
        self.added_items_ = model.add_items(table, about)
        return self

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write a run directory as `tf-hqgnn train` does, for `load` and the command line.

        Raises:
          InputError: The directory is there already.
          NotFittedError: `fit` comes first.
        """
        self._fitted().packed.write(Path(directory))

    @classmethod
    def load(cls, directory: str | os.PathLike[str], verbose: int = 1) -> Recommender:
        """Read a run directory that `save` or `tf-hqgnn train` wrote.

        Raises:
          InputError: It isn't the directory of a finished run, or a file of it is damaged.
        """
        from tf_hqgnn.config import Config
        from tf_hqgnn.runs.packed_run import PackedRun
        from tf_hqgnn.runs.run_directory import RunDirectory

        quieten()
        from tf_hqgnn.recommender.fitted import FittedModel

        folder = Path(directory)
        RunDirectory.load(folder)
        given = folder / "given.yaml"
        recommender = cls(Config.load(given if given.is_file() else folder / "config.yaml"), verbose)
        recommender._keep(FittedModel(PackedRun.read(folder)))
        return recommender

    def export(self, directory: str | os.PathLike[str], version: int | None = None) -> int:
        """Write SavedModels for TF Serving, as `tf-hqgnn export` does, and return their version.

        Args:
          directory: gets `hqgnn/<version>` and `hqgnn_scann/<version>`.
          version: by default the next free one.

        Raises:
          InputError: The version exists, or the settings don't fit the catalogue.
          NotFittedError: `fit` comes first.
        """
        from tf_hqgnn.export.bundle import export_bundle

        model = self._fitted()
        config = model.run.config
        return export_bundle(lambda: model.bundle, Path(directory), config.export, config.retrieval, version)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor, as scikit-learn asks for them."""
        del deep
        return {"config": self.config, "verbose": self.verbose, **self._settings}

    def set_params(self, **params: Any) -> Recommender:
        """Change arguments of the constructor; what was learnt stays until the next `fit`.

        Raises:
          InputError: There is no such argument or setting; nothing is changed then.
        """
        before = self.config, self.verbose, self._settings
        self.config = params.pop("config", self.config)
        self.verbose = params.pop("verbose", self.verbose)
        self._settings = {**self._settings, **params}
        try:
            self._resolved()
        except InputError:
            self.config, self.verbose, self._settings = before
            raise
        return self

    def __sklearn_tags__(self) -> Any:
        """What newer releases of scikit-learn ask before they look whether an estimator is fitted."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __repr__(self) -> str:
        settings = [f"{name}={value!r}" for name, value in self._settings.items()]
        config = self.config if isinstance(self.config, str) else type(self.config).__name__
        fitted = "" if self._model is None else ", fitted"
        return f"<Recommender {', '.join([config, *settings])}{fitted}>"

    def __getattr__(self, name: str) -> Any:
        if name in _FITTED:
            raise NotFittedError(f"{name} isn't there yet: call fit with a log first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _resolved(self) -> Config:
        """All settings; what is served learns from all of the log where none of them asks for something else."""
        from tf_hqgnn.config.names import resolve

        unless_given = {"data.split.valid": 0.0, "data.split.test": 0.0, "training.refit": "all"}
        unless_given |= {"data.item_features": "auto", "data.user_features": "auto"}
        if resolve(self.config, self._settings, {}, ("config", "verbose")).auto.race:
            # Without validation interactions there is nothing to choose by.
            del unless_given["data.split.valid"]
        return resolve(self.config, self._settings, unless_given, ("config", "verbose"))

    def _train(self, dataset: SplitDataset, log: LogInput, config: Config, **options: Any) -> Recommender:
        from tf_hqgnn.logs import progress_on_stderr, start_xla

        quieten()
        from tf_hqgnn.recommender.fitted import fit_model

        with progress_on_stderr() if self.verbose else nullcontext(), own_random_numbers():
            for line in dataset.report.summary if self.verbose else ():
                _log.info(line)
            if config.training.max_epochs and config.training.jit_compile:
                start_xla()
            self._keep(fit_model(dataset, log, config, **options))
            if self.metrics_["warning"] is not None:
                _log.warning("%s", self.metrics_["warning"])
        return self

    def _keep(self, model: FittedModel) -> None:
        self._model = model
        self.config_ = model.run.config
        self.data_report_: ReadReport = model.run.dataset.report
        self.metrics_ = model.run.metrics

    def _fitted(self) -> FittedModel:
        if self._model is None:
            raise NotFittedError("this Recommender hasn't learnt anything yet: call fit with a log first")
        return self._model


def _named(config: DataConfig, columns: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What columns of items and users are called: as an argument says, else as the settings do."""
    return {**config.columns, **(columns or {})}
