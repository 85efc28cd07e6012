"""A value that lives for one superstep: what triggers and routing between nodes are made of."""

from __future__ import annotations

from collections.abc import Sequence

from clew._missing import MISSING
from clew.channels._concurrent import several_writes
from clew.channels._single import GuardedChannel
from clew.channels.base import Value

__all__ = ("EphemeralValue",)


class EphemeralValue(GuardedChannel[Value]):
    """Holds what the superstep before wrote, and nothing after that."""

    __slots__ = ()
    reacts_to_empty = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EphemeralValue) and other.guard == self.guard

    def update(self, values: Sequence[Value]) -> bool:
        """Take the last value written, or become empty; with the guard, several writes are refused."""
        if values:
            if self.guard and len(values) != 1:
                raise several_writes(self, len(values), hint="keep any one of several with EphemeralValue(guard=False)")
            self.value = values[-1]
            return True
        if self.value is MISSING:
            return False
        self.value = MISSING
        return True
