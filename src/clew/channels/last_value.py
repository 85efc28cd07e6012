"""Plain state: the last value written, from at most one task per superstep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from clew._missing import MISSING, Missing
from clew.channels._concurrent import several_writes
from clew.channels._single import SingleValueChannel
from clew.channels.base import BaseChannel, Value
from clew.errors import EmptyChannelError

__all__ = ("LastValue", "LastValueAfterFinish")


class LastValue(SingleValueChannel[Value]):
    """Holds the last value written; two writes in one superstep raise `InvalidUpdateError`."""

    __slots__ = ()
    reacts_to_empty = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LastValue)

    def update(self, values: Sequence[Value]) -> bool:
        """Take the one value written, if there is one."""
        if len(values) == 1:
            self.value = values[0]
            return True
        if not values:
            return False
        raise several_writes(self, len(values))


class LastValueAfterFinish(BaseChannel[Value, Value, tuple[Value, bool]]):
    """Holds the last value written, shows it only once the run would otherwise end, and forgets it when consumed."""

    __slots__ = ("finished", "value")
    reacts_to_empty = False

    value: Value | Missing
    finished: bool

    def __init__(self, typ: Any, key: str = "") -> None:
        super().__init__(typ, key)
        self.value = MISSING
        self.finished = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LastValueAfterFinish)

    def copy(self) -> Self:
        """A copy that shares the value."""
        twin = object.__new__(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.value = self.value
        twin.finished = self.finished
        return twin

    def checkpoint(self) -> tuple[Value, bool] | Missing:
        """The value and whether it is shown; `MISSING` if there is no value."""
        return MISSING if self.value is MISSING else (self.value, self.finished)

    def from_checkpoint(self, checkpoint: tuple[Value, bool] | Missing) -> Self:
        """A channel in the stored state."""
        twin = self.copy()
        twin.value, twin.finished = (MISSING, False) if checkpoint is MISSING else checkpoint
        return twin

    def get(self) -> Value:
        """The value; raises `EmptyChannelError` if there is none or it is not shown yet."""
        if self.value is MISSING or not self.finished:
            raise EmptyChannelError(f"channel {self.key!r} is empty")
        return self.value

    def is_available(self) -> bool:
        """Whether there is a value and it is shown."""
        return self.finished and self.value is not MISSING

    def update(self, values: Sequence[Value]) -> bool:
        """Take the last value written and hide it again."""
        if not values:
            return False
        self.value = values[-1]
        self.finished = False
        return True

    def consume(self) -> bool:
        """Forget a value that was shown."""
        if not self.finished:
            return False
        self.value = MISSING
        self.finished = False
        return True

    def finish(self) -> bool:
        """Show the value."""
        if self.finished or self.value is MISSING:
            return False
        self.finished = True
        return True
