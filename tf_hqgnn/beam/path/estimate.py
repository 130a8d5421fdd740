"""An estimate, before anything runs, of what a path on Beam takes: processor hours, bytes moved, disk, machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.path.prepare import Sizes
from tf_hqgnn.config import Config
from tf_hqgnn.graph.truncated_svd import OVERSAMPLING

# Seconds of one processor, measured on Flink (`python -m benchmarks.path`): of a job, whatever it does; to prepare a
# row of the log; for each pair and column of a product; for each value of a row that is read or written; and for each
# score of a ranking.
JOB_SECONDS = 10.0
PREPARE_SECONDS = 18e-6
PRODUCT_SECONDS = 4e-9
VALUE_SECONDS = 4e-9
SCORE_SECONDS = 40e-9
# Jobs besides products: read, number, blocks; start; norms, tables, stats, served; evaluate.
_JOBS = 9
# Bytes that shuffles move for a row of the log, and of a pair, and of an end of a pair, in files.
_ROW_BYTES, _PAIR_BYTES, _END_BYTES = 450, 30, 16
# Bytes of a worker's Python with a block of text, and how many blocks of rows and pieces it holds at a time.
_WORKER_BYTES, _HELD_BLOCKS, _HELD_PIECES = 0.6e9, 3, 4
# Pieces that Beam's Java sends before it looks whether Python has read them. Those of many small messages are hardly
# compressed.
_ON_THE_WAY = 100
# Bytes of a row of a log as text, about.
ROW_BYTES = 30
# Of what machines have, and in which time all should be done.
CORES, HOURS = 16, 12.0
# Of the interactions of a log that isn't known yet, one user has this many, and one item.
_PER_USER, _PER_ITEM = 100, 1000


@dataclass(frozen=True)
class Estimate:
    """An estimate for a log of some size.

    Args:
      num_interactions: rows of the log.
      num_users: how many users are assumed.
      num_items: how many items.
      processor_hours: of one core, all steps together.
      shuffled: bytes that go through a shuffle.
      read: bytes of tables that products read from files, and which no shuffle moves.
      least: bytes that products would shuffle if each sent every pair's row once: pairs x columns x 4.
      disk: bytes of files at most, at a time.
      worker_memory: bytes of one worker's Python at most.
      engine_memory: bytes of an engine's direct memory at most, for what is on its way to a worker's Python.
      machines: of 16 cores that are done in 12 hours.
      hours: that these take.
    """

    num_interactions: int
    num_users: int
    num_items: int
    processor_hours: float
    shuffled: float
    read: float
    least: float
    disk: float
    worker_memory: float
    engine_memory: float
    machines: int
    hours: float

    def __str__(self) -> str:
        machines = f"{self.machines:,} machine{'s' if self.machines > 1 else ''}"
        return (
            f"{self.num_interactions:,} interactions of {self.num_users:,} users with {self.num_items:,} items: "
            f"{self.processor_hours:,.1f} processor hours, such as {machines} of {CORES} cores for "
            f"{self.hours:.1f} hours; {_size(self.shuffled)} shuffled, {_size(self.read)} read by products (to shuffle "
            f"every pair's row would move {_size(self.least)}); {_size(self.disk)} of disk; "
            f"{_size(self.worker_memory)} of memory for a worker's Python, {_size(self.engine_memory)} for what is on "
            "its way there"
        )


def estimate(config: Config, num_interactions: int, num_users: int = 0, num_items: int = 0) -> Estimate:
    """The estimate for a log of some size.

    Args:
      config: all settings.
      num_interactions: rows of the log.
      num_users: 0 for a hundredth of the interactions.
      num_items: 0 for a thousandth.

    Example:
      >>> found = estimate(Config(), 10**9)
      >>> found.num_users, found.num_items, found.machines >= 1
      (10000000, 1000000, True)
    """
    columns = config.model.embedding_dim + OVERSAMPLING
    sizes = Sizes.of(num_interactions * ROW_BYTES, columns)
    num_users, num_items = num_users or num_interactions // _PER_USER, num_items or num_interactions // _PER_ITEM
    blocks = Blocks.choose(num_users, num_items, num_interactions, sizes.block_rows, sizes.block_edges)
    pairs = config.model.spectral_iterations + 1
    # Of a product with the matrix, and of one with its transpose: every block of the result reads the other table.
    read_values = columns * (blocks.user_blocks * num_items + blocks.item_blocks * num_users)
    written = columns * (num_users + num_items)
    judged = min(config.evaluation.validation_users, num_users)
    seconds = JOB_SECONDS * (_JOBS + 2 * pairs) + PREPARE_SECONDS * num_interactions
    seconds += pairs * (2 * PRODUCT_SECONDS * num_interactions * columns + VALUE_SECONDS * (read_values + written))
    seconds += 4 * VALUE_SECONDS * written + SCORE_SECONDS * judged * num_items
    table, ends = 4.0 * written, 2.0 * _END_BYTES * num_interactions
    rows = min(blocks.block_rows, max(num_users, num_items))
    memory = _WORKER_BYTES + 4.0 * _HELD_BLOCKS * rows * columns + _HELD_PIECES * sizes.piece_bytes
    hours = seconds / 3600
    machines = max(1, -int(-hours // (CORES * HOURS)))
    return Estimate(
        num_interactions,
        num_users,
        num_items,
        hours,
        _ROW_BYTES * num_interactions,
        4.0 * pairs * read_values,
        8.0 * pairs * num_interactions * columns,
        num_interactions * (4.0 * _PAIR_BYTES) + ends + 4 * table,
        memory,
        float(_ON_THE_WAY * sizes.piece_bytes),
        machines,
        hours / (CORES * machines),
    )


def plan_lines(config: Config, log_bytes: int) -> Sequence[str]:
    """The estimates for the log of the settings, by its bytes, and for 1, 10 and 100 billion interactions.

    Args:
      config: all settings.
      log_bytes: of the log as plain text.
    """
    counts = [max(1000, log_bytes // ROW_BYTES), 10**9, 10**10, 10**11]
    return [f"plan: {estimate(config, count)}" for count in counts]


def _size(num_bytes: float) -> str:
    """Bytes in words.

    Example:
      >>> _size(2.5e12), _size(3e8)
      ('2.5 TB', '0.3 GB')
    """
    return f"{num_bytes / 1e12:,.1f} TB" if num_bytes >= 1e12 else f"{num_bytes / 1e9:,.1f} GB"
