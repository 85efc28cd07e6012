"""State that lives in a run and is never stored, such as an open connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from clew._missing import MISSING, Missing
from clew.channels._concurrent import several_writes
from clew.channels._single import GuardedChannel
from clew.channels.base import Value

__all__ = ("UntrackedValue",)


class UntrackedValue(GuardedChannel[Value]):
    """Holds the last value written, for the length of one run; it has no checkpoint."""

    __slots__ = ()
    reacts_to_empty = False
    is_tracked = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntrackedValue) and other.guard == self.guard

    def checkpoint(self) -> Missing:
        """Nothing, always."""
        return MISSING

    def from_checkpoint(self, checkpoint: Value | Missing) -> Self:
        """An empty channel, whatever was stored."""
        twin = self.copy()
        twin.value = MISSING
        return twin

    def update(self, values: Sequence[Value]) -> bool:
        """Take the last value written; with the guard, several writes are refused."""
        if not values:
            return False
        if self.guard and len(values) != 1:
            raise several_writes(self, len(values), hint="keep any one of several with UntrackedValue(guard=False)")
        self.value = values[-1]
        return True
