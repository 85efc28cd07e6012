"""The part that channels holding one plain value have in common."""

from __future__ import annotations

from typing import Any, Self

from clew._missing import MISSING, Missing
from clew.channels.base import BaseChannel, Value
from clew.errors import EmptyChannelError

__all__ = ("GuardedChannel", "SingleValueChannel")

_new = object.__new__


class SingleValueChannel(BaseChannel[Value, Value, Value]):
    """Holds one value, or `MISSING`; a subclass says which of a superstep's writes it becomes."""

    __slots__ = ("value",)

    value: Value | Missing

    def __init__(self, typ: Any, key: str = "") -> None:
        self.typ = typ
        self.key = key
        self.value = MISSING

    def copy(self) -> Self:
        """A copy that shares the value."""
        twin = _new(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.value = self.value
        return twin

    def checkpoint(self) -> Value | Missing:
        """The value, or `MISSING`."""
        return self.value

    def from_checkpoint(self, checkpoint: Value | Missing) -> Self:
        """A channel that holds `checkpoint`."""
        twin = self.copy()
        twin.value = checkpoint
        return twin

    def get(self) -> Value:
        """The value; raises `EmptyChannelError` if there is none."""
        if self.value is MISSING:
            raise EmptyChannelError(f"channel {self.key!r} is empty")
        return self.value

    def is_available(self) -> bool:
        """Whether there is a value."""
        return self.value is not MISSING


class GuardedChannel(SingleValueChannel[Value]):
    """A single value with a guard: with `guard=True` several writes in one superstep are refused."""

    __slots__ = ("guard",)

    guard: bool

    def __init__(self, typ: Any, guard: bool = True) -> None:
        super().__init__(typ)
        self.guard = guard

    def copy(self) -> Self:
        """A copy that shares the value."""
        twin = _new(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.value = self.value
        twin.guard = self.guard
        return twin
