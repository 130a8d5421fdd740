"""Which settings the path on Beam has: what it can't do is refused before anything runs."""

from __future__ import annotations

from tf_hqgnn.config import Config
from tf_hqgnn.types import InputError


def check_supported(config: Config) -> None:
    """Refuses settings that need all of the log in one machine's memory.

    Args:
      config: all settings.

    Raises:
      InputError: One isn't supported; the line says which, and what to set instead.

    Example:
      >>> check_supported(Config().with_values({"auto.race": False}))  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      tf_hqgnn.types.InputError: --runner: training.max_epochs=20 trains on one machine ...
    """
    data, model, quantization = config.data, config.model, config.quantization
    is_coded = quantization.bits is not None
    refused = (
        (config.auto.race, "auto.race chooses settings on one machine; take the preset spectral"),
        (
            config.training.max_epochs > 0,
            f"training.max_epochs={config.training.max_epochs} trains on one machine or with TensorFlow's strategies; "
            "take the preset spectral, or set training.max_epochs=0",
        ),
        (
            model.initializer != "spectral",
            f"model.initializer={model.initializer} isn't made by Beam jobs; set model.initializer=spectral",
        ),
        (
            model.encoder_choice().convolves,
            f"model.encoder={model.encoder} convolves on one machine; set model.encoder=none",
        ),
        (
            config.training.refit is not False,
            f"training.refit={config.training.refit} isn't made by Beam jobs; set training.refit=false, and hold "
            "nothing out (data.split.valid=0, data.split.test=0) to serve what the whole log gives",
        ),
        (
            config.training.warm_start not in (None, "auto"),
            "training.warm_start goes on from a run in memory; set training.warm_start=null",
        ),
        (
            config.training.strategy != "none",
            f"training.strategy={config.training.strategy} is for training by epochs; set training.strategy=none",
        ),
        (
            config.propagation.search and config.propagation.make_solver().propagates,
            "propagation.search tries propagations on one machine; set propagation.search=false",
        ),
        (
            config.ease.columns > 0,
            f"ease.columns={config.ease.columns} needs a matrix of all pairs of items; set ease.columns=0",
        ),
        (
            is_coded and quantization.method != "post_training",
            f"quantization.method={quantization.method} trains codes on one machine; set "
            "quantization.method=post_training",
        ),
        (
            is_coded and quantization.mode == "per_tensor" and quantization.output_scale,
            "quantization.output_scale is fitted on one machine; set quantization.output_scale=false",
        ),
        (
            bool(data.item_features or data.user_features or data.users_path),
            "features of users and items are learnt on one machine; leave out data.users_path, data.user_features and "
            "data.item_features",
        ),
        (
            data.quarantine_path is not None,
            "data.quarantine_path is written on one machine; set data.max_bad_rows to leave bad rows out",
        ),
    )
    for is_refused, why in refused:
        if is_refused:
            raise InputError(f"--runner: {why}")
