"""What the rows of a log say by the settings: which are interactions, what they weigh, and which are dislikes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tf_hqgnn.data.column_names import ColumnNames
from tf_hqgnn.types import BoolArray, Float64Array, InputError, Int32Array

if TYPE_CHECKING:
    from tf_hqgnn.config import DataConfig

_SECONDS_PER_DAY = {"seconds": 86_400.0, "milliseconds": 86.4e6, "microseconds": 86.4e9, "nanoseconds": 86.4e12}
# By column, the settings that need it, and what each is set to where it asks for nothing.
_NEEDED_BY: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "rating": {"min_rating": (None,), "negative_rating": (None,)},
    "event": {"event_weights": (None,), "exclude_events": (None,)},
    "timestamp": {"half_life_days": (None, np.inf), "combine": ("sum", "largest")},
}
# Older rows weigh no less, so that every weight is more than 0 in float32.
_MOST_HALVINGS = 100.0


@dataclass(frozen=True)
class LogRules:
    """How rows become weighted pairs; the settings of `DataConfig` that have these names.

    Args:
      columns: what columns are called, and which are read.
      min_rating: the lowest rating that counts as an interaction.
      negative_rating: rows rated below it are dislikes.
      event_weights: by event, what its rows weigh; None where events don't matter for weights.
      exclude_events: the events by which an item is taken; None for all rows.
      combine: what the weights of several rows of a pair become.
      half_life_days: in which time a row's weight halves; None for never.
      strict: whether a rule for dislikes or events needs its column to be there.
      is_later: whether the log goes on from another: a day may lack an event of `exclude_events`.

    Example:
      >>> rules = LogRules(half_life_days=1.0)
      >>> rules.decay("log.csv", np.array([1.7e9, 1.7e9 + 86_400]), "seconds").tolist()
      [0.5, 1.0]
    """

    columns: ColumnNames = field(default_factory=ColumnNames)
    min_rating: float | None = None
    negative_rating: float | None = None
    event_weights: Mapping[str, float] | None = None
    exclude_events: Sequence[str] | None = None
    combine: Literal["sum", "largest", "last"] = "sum"
    half_life_days: float | None = None
    strict: bool = True
    is_later: bool = False

    @staticmethod
    def of(config: DataConfig, columns: Mapping[str, Any] | None = None) -> LogRules:
        """The rules of the settings.

        Args:
          config: the settings.
          columns: names of columns that come before those of `data.columns`.
        """
        with_events = config.event_weights is not None or config.exclude_events is not None
        return LogRules(
            ColumnNames({**config.columns, **(columns or {})}, with_events),
            config.min_rating,
            config.negative_rating,
            config.event_weights,
            config.exclude_events,
            config.combine,
            config.half_life_days,
        )

    def of_pairs(self) -> LogRules:
        """The rules by which a log says who took what: weights don't matter, and columns for them may be missing."""
        return replace(self, exclude_events=None, combine="sum", half_life_days=None, strict=False)

    def check_columns(self, name: str, columns: Container[str]) -> None:
        """Check that a log has the columns that the rules need.

        Args:
          name: of the log, for messages.
          columns: those that the log has, by their own names.

        Raises:
          InputError: A column isn't there. Rules that aren't `strict` need ratings for `min_rating` and nothing else.
        """
        for column, settings in _NEEDED_BY.items():
            for setting, unset in settings.items():
                value = getattr(self, setting)
                if column in columns or value in unset or not (self.strict or setting == "min_rating"):
                    continue
                said = f"={value}" if isinstance(value, (str, float, int)) else ""
                raise InputError(
                    f"{name}: data.{setting}{said} needs a column {self.columns[column]}, which it doesn't have"
                )

    def opinions(self, name: str, rating: Float64Array | None, size: int) -> tuple[BoolArray, BoolArray]:
        """Which rows are rated high enough to count, and which are dislikes; bool [n] each.

        Raises:
          InputError: No rating is high enough.
        """
        liked, disliked = np.ones(size, bool), np.zeros(size, bool)
        if rating is None:
            return liked, disliked
        if self.negative_rating is not None:
            disliked = rating < self.negative_rating
            liked = ~disliked
        if self.min_rating is not None:
            liked &= rating >= self.min_rating
            if not liked.any():
                raise InputError(
                    f"{name}: no rating reaches min_rating={self.min_rating}, the highest is {rating.max():g}"
                )
        if not liked.any():
            raise InputError(f"{name}: every rating is below negative_rating={self.negative_rating}; lower it")
        return liked, disliked

    def weigh_events(self, name: str, events: Sequence[str], event: Int32Array | None) -> Float64Array | None:
        """The weight of each row by its event, float64 [n]; None where events don't matter.

        Args:
          name: of the log, for messages.
          events: the distinct events.
          event: int32 [n], rows of `events`; None where the log has no such column.

        Raises:
          InputError: An event has no weight.
        """
        if self.event_weights is None or event is None:
            return None
        missing = [one for one in events if one not in self.event_weights]
        if missing:
            raise InputError(
                f"{name}: data.event_weights has no weight for {', '.join(map(repr, missing[:5]))}; add it, with 0 for "
                "events that nothing is learnt from"
            )
        weights: Float64Array = np.array([self.event_weights[one] for one in events], np.float64)[event]
        return weights

    def taken(self, name: str, events: Sequence[str], event: Int32Array | None, size: int) -> BoolArray:
        """Which rows keep their item from coming back, bool [n].

        Raises:
          InputError: `exclude_events` names an event that isn't in the log.
        """
        if self.exclude_events is None or event is None:
            return np.ones(size, bool)
        unknown = [one for one in self.exclude_events if one not in events]
        if unknown and not self.is_later:
            raise InputError(
                f"{name}: data.exclude_events names {unknown[0]!r}, which the log doesn't have; found: "
                f"{', '.join(list(events)[:10])}"
            )
        counts: BoolArray = np.isin(np.asarray(events, object), list(self.exclude_events))[event]
        return counts

    def decay(self, name: str, timestamp: Float64Array | None, unit: str | None) -> Float64Array | None:
        """What is left of each row's weight, float64 [n], by its age at the end of the log; None where nothing is lost.

        Raises:
          InputError: The unit of the time can't be told.
        """
        if timestamp is None or self.half_life_days is None or np.isinf(self.half_life_days):
            return None
        left: Float64Array = 0.5 ** np.minimum(
            self.halvings(name, float(timestamp.max()) - timestamp, unit), _MOST_HALVINGS
        )
        return left

    def halvings(self, name: str, time: Any, unit: str | None) -> Any:
        """How often a weight halves in a time; 0 without a half-life.

        Args:
          name: of the log, for messages.
          time: a number or an array of them.
          unit: of the time.

        Raises:
          InputError: The unit isn't known.
        """
        if self.half_life_days is None or np.isinf(self.half_life_days):
            return 0.0 * time
        if unit is None:
            raise InputError(
                f"{name}: data.half_life_days needs timestamps whose unit can be told, such as seconds since 1970, and "
                "these only count; leave it out, or write times"
            )
        return time / (_SECONDS_PER_DAY[unit] * self.half_life_days)

    def joined(self, first: Float64Array, second: Float64Array) -> Float64Array:
        """The weights of pairs of which one log has the first and a later log the second, float64 [n]."""
        if self.combine == "sum":
            return first + second
        return np.maximum(first, second) if self.combine == "largest" else second


# Every row is an interaction, and all weigh the same or as their column says.
EVERY_ROW = LogRules()
