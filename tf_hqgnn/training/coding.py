"""From full-precision rows to the codes that are served: rounded, distilled, or trained by the model's own loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import tf_keras

from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.models.delta_refresh import refresh_deltas
from tf_hqgnn.models.factory import make_model, make_quantizers
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.float16 import fit_float16
from tf_hqgnn.training.code_logs import CodeHistory, FlippedBits
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
      items: float32 [I, d], the embeddings of items.
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
    monitor = config.quantization.monitor or config.evaluation.monitor
    name, judge = f"valid_{monitor}", validate
    if judge is None:
        name = f"agreement_{monitor}"
        judge = agreement_judge(users, items, graph, config.evaluation, _AGREEMENT_USERS, config.seed)
    with closing(CodeHistory(folder, config.quantization.distillation_schedule[0])) as history:
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
    """HQ-GNN: the trained model goes on with quantizers between its encoder and its loss, or begins anew with them.

    Rounding what it starts with is the first candidate, so that the result isn't worse on the validation split.
    """
    quantization = config.quantization
    quantizers = make_quantizers(quantization)
    from_scratch = quantization.start == "scratch"
    coded = make_model(config, graph, quantizers, initialize=from_scratch)
    if not from_scratch:
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
    monitor = quantization.monitor or config.evaluation.monitor
    start = validate_codes().get(monitor)
    fit(
        coded,
        train,
        graph,
        training,
        config.seed,
        validate_codes,
        folder,
        [_RefreshDelta(train, graph, config, encode)],
        start_value=start,
        monitor=monitor,
    )
    return encode()


class _RefreshDelta(tf_keras.callbacks.Callback):
    """Lets the estimator's delta follow the Hessian or the epoch, and adds to the logs what the quantizers do.

    It looks at batches of the epochs past the last one, so that the same epoch always takes the same batches, which
    aren't trained on.
    """

    def __init__(
        self,
        train: Interactions,
        graph: InteractionGraph,
        config: Config,
        encode: Callable[[], CodedEmbeddings],
    ) -> None:
        super().__init__()
        self._train = train
        self._graph = graph
        self._config = config
        self._encode = encode
        self._flipped: FlippedBits | None = None
        self._seen: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Refreshes before the epoch's first step."""
        del logs
        if self._flipped is None:
            self._flipped = FlippedBits(self._encode())
        config = self._config
        settings = config.quantization
        for quantizer in (self.model.user_quantizer, self.model.item_quantizer):
            if quantizer is not None:
                quantizer.set_progress(epoch / settings.max_epochs)
        batches = loss_batches(
            config.loss.make(),
            self._train,
            self._graph,
            min(config.training.batch_size, len(self._train)),
            config.seed,
            settings.max_epochs + epoch,
        )
        drawn = batches.take(settings.delta_batches)
        self._seen = refresh_deltas(self.model, drawn, settings, settings.finds_delta(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds to the logs, which the validation writes."""
        del epoch
        if logs is not None and self._flipped is not None:
            logs.update(self._seen, **self._flipped.update(self._encode()))
