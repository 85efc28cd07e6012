"""State that several tasks may write because they agree on its value."""

from __future__ import annotations

from collections.abc import Sequence

from clew._missing import MISSING
from clew.channels._single import SingleValueChannel
from clew.channels.base import Value

__all__ = ("AnyValue",)


class AnyValue(SingleValueChannel[Value]):
    """Holds the last of a superstep's writes, assuming they are all equal; empty after a superstep without any."""

    __slots__ = ()
    reacts_to_empty = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyValue)

    def update(self, values: Sequence[Value]) -> bool:
        """Take the last value written, or become empty."""
        if values:
            self.value = values[-1]
            return True
        if self.value is MISSING:
            return False
        self.value = MISSING
        return True
