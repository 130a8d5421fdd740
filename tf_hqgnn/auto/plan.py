"""What a race may take: a number of training steps, divided among contestants and the training after them."""

from __future__ import annotations

from dataclasses import dataclass

# Epochs of a plain training, by which a default budget is counted.
PLAIN_EPOCHS = 12
# Columns of the tables that contestants train: what is best for these is best for more.
RACED_DIM = 64
# How much longer a step with d columns takes than one with RACED_DIM: this times d / RACED_DIM, from 1 on.
_COST_OF_COLUMNS = 0.75
# Lengths of the two rounds, relative to the training's epochs; the winners of the first run the second.
_FIRST, _SECOND = 0.25, 0.65
# Of the epochs, where the first round was better than the second.
SHORT_TRAINING = 0.4
# Fewer contestants tell nothing, more than these bring nothing.
_LEAST, _MOST = 3, 16


def columns_and_bits(bytes_per_item: int, num_users: int, num_items: int) -> tuple[int, int]:
    """The most columns of an item's code, and its bits: 8 while 64 columns fit, and as many as fit of 64 below that.

    Args:
      bytes_per_item: of the code, its scale of two bytes included.
      num_users: U.
      num_items: I; there are no more directions than the smaller of the two.

    Example:
      >>> columns_and_bits(258, 10_000, 5_000), columns_and_bits(34, 10_000, 5_000), columns_and_bits(258, 40, 90)
      ((256, 8), (64, 4), (40, 8))
    """
    free = max(1, bytes_per_item - 2)
    most = max(2, min(num_users, num_items))
    if free >= 64:
        return min(free, 512, most), 8
    for bits in (8, 4, 2):
        if 64 * bits <= 8 * free:
            return min(64, most), bits
    return min(8 * free, most), 1


def bits_of(dim: int, bytes_per_item: int) -> int:
    """The most bits of a code with these columns that fit, its scale of two bytes included.

    Example:
      >>> bits_of(64, 66), bits_of(64, 34), bits_of(16, 10)
      (8, 4, 4)
    """
    return next((bits for bits in (8, 4, 2) if dim * bits <= 8 * (bytes_per_item - 2)), 1)


@dataclass(frozen=True)
class Plan:
    """How the steps of a budget are spent.

    Args:
      epochs: of the training; 0 where the budget isn't enough for one.
      contestants: of the first round.
      first: steps of each.
      second: steps of the best of them.
      share: of the users that the race sees, at most 1.
      most_epochs: that the training may have.
    """

    epochs: int
    contestants: int
    first: int
    second: int
    share: float
    most_epochs: int = PLAIN_EPOCHS

    @property
    def long_runners(self) -> int:
        """How many run the second round."""
        return _long_runners(self.contestants)

    @staticmethod
    def of(
        steps: int,
        steps_per_epoch: int,
        dim: int,
        trainings: int,
        most_epochs: int = PLAIN_EPOCHS,
        most_share: float = 1.0,
    ) -> Plan:
        """Divides a budget.

        Args:
          steps: of training with `dim` columns, all together.
          steps_per_epoch: of the training.
          dim: its columns.
          trainings: 2 where a refit follows the training, else 1.
          most_epochs: of the training.
          most_share: of the users that the race may see.

        Example:
          >>> plan = Plan.of(steps=2400, steps_per_epoch=100, dim=256, trainings=1)
          >>> plan.epochs, plan.contestants, plan.first, plan.second, plan.share
          (12, 6, 300, 780, 1.0)
        """
        # The race takes as long as a training.
        epochs = min(most_epochs, steps // (steps_per_epoch * (trainings + 1)))
        if not epochs and steps >= steps_per_epoch * trainings:
            epochs = min(1, most_epochs)
        raced = (steps - epochs * trainings * steps_per_epoch) * cost_of_columns(dim)
        length = max(1, epochs)
        # So many epochs of the whole log are a race of the fewest contestants.
        needed = (_LEAST * _FIRST + _long_runners(_LEAST) * _SECOND) * length * steps_per_epoch
        share = min(most_share, max(raced, 1) / needed)
        first, second = (max(1, round(part * length * steps_per_epoch * share)) for part in (_FIRST, _SECOND))
        for contestants in range(_MOST, _LEAST - 1, -1):
            if contestants * first + _long_runners(contestants) * second <= raced:
                break
        return Plan(epochs, contestants, first, second, share, most_epochs)


def _long_runners(contestants: int) -> int:
    return max(2, contestants // 3)


def cost_of_columns(dim: int) -> float:
    """How much longer a step with `dim` columns takes than one of the race."""
    return max(1.0, _COST_OF_COLUMNS * dim / RACED_DIM)


def default_steps(steps_per_epoch: int, trainings: float) -> int:
    """Return the steps of so many plain trainings: those that follow, and about one more for the race."""
    return int(PLAIN_EPOCHS * steps_per_epoch * trainings)
