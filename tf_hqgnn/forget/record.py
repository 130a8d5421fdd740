"""What a call of `forget` did, and what it can't do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# What no folder that is given can hold.
EVERYWHERE = (
    "the log: delete the users' rows there, or the next training learns them again",
    "backups and copies of any of this, answers of batches, and the logs of servers",
    "what was learnt together with them: rows of items and of other users, and popularity, until the next training",
)


@dataclass
class Forgotten:
    """The users, and where they were.

    Args:
      users: the ids that were asked for.
      touched: a line for each thing that was changed or removed.
      not_reached: a line for each thing that may still hold them.
      version: that was written in the export; None where there was no need.
      known: the users that one of the folders knew.
    """

    users: tuple[str, ...]
    touched: list[str] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)
    version: int | None = None
    known: list[str] = field(default_factory=list)

    def note_known(self, ids: Iterable[str]) -> None:
        """Notes which of the users are among the ids of a folder."""
        here = set(ids)
        self.known = [user for user in self.users if user in here or user in self.known]
