"""From full-precision rows to the codes that are served: rounded, distilled, or trained by the model's own loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import tf_keras

from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.files.durable import write_csv
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.models.factory import make_model, make_quantizers
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.float16 import fit_float16
from tf_hqgnn.training.distillation import distill
from tf_hqgnn.training.fitting import fit, loss_batches
from tf_hqgnn.training.judge import agreement_judge
from tf_hqgnn.types import Float32Array, Interactions

log = logging.getLogger(__name__)
_AGREEMENT_USERS = 2048

Validate = Callable[[Float32Array, Float32Array], dict[str, float]]


def make_codes(
    model: HQGNN,
    users: Float32Array,
    items: Float32Array,
    train: Interactions,
    graph: InteractionGraph,
    config: Config,
    validate: Validate | None,
    folder: Path,
) -> CodedEmbeddings:
    """The codes of a trained model, by the method of `config.quantization`.

    Args:
      model: trained in full precision.
      users: float32 [U, d], its rows as they would be served, propagated.
      items: float32 [I, d], likewise.
      train: the training interactions.
      graph: of those.
      config: all settings.
      validate: (user rows, item rows) -> metrics on the validation split. None without one: distillation then keeps
        the codes that rank most as the full-precision rows do, fine-tuning those of the last epoch.
      folder: gets what the method logs: `history.csv` with delta, and what a resumed run needs.
    """
    method, user_bits = config.quantization.method, config.quantization.user_bits or 32
    log.info("codes: %s, %s bits for items, %s for users", method, config.quantization.bits, user_bits)
    if method != "fine_tuning":
        users, items = fit_float16(users, "users"), fit_float16(items, "items")
    if method == "post_training":
        return post_training_codes(users, items, config.quantization)
    folder.mkdir(exist_ok=True)
    if method == "fine_tuning":
        return _fine_tune(model, train, graph, config, validate, folder)
    monitor = config.evaluation.monitor
    name, judge = f"valid_{monitor}", validate
    if judge is None:
        name = f"agreement_{monitor}"
        judge = agreement_judge(users, items, graph, config.evaluation, _AGREEMENT_USERS, config.seed)
    history = _History(folder / "history.csv", config.quantization.distillation.max_epochs)
    return distill(
        users,
        items,
        graph.masked(),
        config.quantization,
        config.seed,
        validate=lambda users, items: judge(users, items)[monitor],
        on_epoch=lambda row: history.write({name if key == "valid" else key: row[key] for key in row}),
    )


def post_training_codes(users: Float32Array, items: Float32Array, config: QuantizationConfig) -> CodedEmbeddings:
    """The rows rounded as they are; one range per tensor is mean -+ 3 standard deviations.

    Args:
      users: float32 [U, d].
      items: float32 [I, d].
      config: bits, mode and symmetry of the codes.
    """
    quantizers = make_quantizers(config)
    for quantizer, rows in zip(quantizers, (users, items)):
        if quantizer is not None and quantizer.mode == "per_tensor":
            quantizer.adapt_range(rows)
    return _encode(users, items, *quantizers)


def _encode(
    users: Float32Array, items: Float32Array, user_quantizer: LowBitQuantizer | None, item_quantizer: LowBitQuantizer
) -> CodedEmbeddings:
    return CodedEmbeddings(
        users if user_quantizer is None else user_quantizer.encode(users), item_quantizer.encode(items)
    )


def _fine_tune(
    model: HQGNN, train: Interactions, graph: InteractionGraph, config: Config, validate: Validate | None, folder: Path
) -> CodedEmbeddings:
    """HQ-GNN: the trained model goes on with quantizers between its encoder and its loss.

    Rounding what it starts with is the first candidate, so that the result isn't worse on the validation split.
    """
    quantization = config.quantization
    quantizers = make_quantizers(quantization)
    coded = make_model(config, graph, quantizers, initialize=False)
    coded.user_table.assign(model.user_table)
    coded.item_table.assign(model.item_table)
    coded.encoder.set_weights(model.encoder.get_weights())
    for quantizer, rows in zip(quantizers, coded.embeddings()):
        if quantizer is not None and quantizer.mode == "per_tensor":
            quantizer.adapt_range(rows)

    def encode() -> CodedEmbeddings:
        return _encode(*coded.embeddings(), *quantizers)

    def validate_codes() -> dict[str, float]:
        return {} if validate is None else validate(*encode().dequantize())

    training = config.training.model_copy(
        update={
            "max_epochs": quantization.max_epochs,
            "evaluate_every": 1,
            "learning_rate": quantization.learning_rate,
        }
    )
    callbacks = [_RefreshDelta(train, graph, config)] if quantization.make_estimator().follows_hessian else []
    start = validate_codes().get(config.evaluation.monitor)
    fit(
        coded,
        train,
        graph,
        training,
        config.seed,
        validate_codes,
        folder,
        callbacks,
        start_value=start,
        monitor=config.evaluation.monitor,
    )
    return encode()


class _RefreshDelta(tf_keras.callbacks.Callback):
    """Lets the estimator's delta follow the Hessian, from a batch of each epoch that is due.

    A batch of the epochs past the last one, so that the same epoch always takes the same batch, and one that is not
    trained on.
    """

    def __init__(self, train: Interactions, graph: InteractionGraph, config: Config) -> None:
        super().__init__()
        self._train = train
        self._graph = graph
        self._config = config

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Refreshes before the epoch's first step."""
        del logs
        config = self._config
        if epoch % config.quantization.refresh_every:
            return
        batches = loss_batches(
            config.loss.make(),
            self._train,
            self._graph,
            config.training.batch_size,
            config.seed,
            config.quantization.max_epochs + epoch,
        )
        self.model.refresh_deltas(next(iter(batches.take(1))), config.quantization)


class _History:
    """Rows of a CSV, written as they come, and a line on standard error for each tenth of the way."""

    def __init__(self, path: Path, max_epochs: int) -> None:
        self._path = path
        self._max_epochs = max_epochs
        self._rows: list[dict[str, float]] = []

    def write(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        write_csv(self._path, self._rows)
        epoch = int(row["epoch"])
        if epoch % max(1, self._max_epochs // 10) == 0:
            text = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
            log.info("codes: epoch %d/%d  %s", epoch, self._max_epochs, text)
