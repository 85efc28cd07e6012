"""A list of everything that was published, from any number of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

from clew._missing import MISSING, Missing
from clew.channels.base import BaseChannel, Value
from clew.errors import EmptyChannelError

__all__ = ("Topic",)


class Topic(BaseChannel[Sequence[Value], Value | list[Value], list[Value]]):
    """Holds all values of a superstep, a written list counting as its items; `accumulate` keeps earlier ones too."""

    __slots__ = ("accumulate", "values")
    reacts_to_empty = True

    accumulate: bool
    values: list[Value]

    def __init__(self, typ: Any, accumulate: bool = False) -> None:
        super().__init__(typ)
        self.accumulate = accumulate
        self.values = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topic) and other.accumulate == self.accumulate

    @property
    def ValueType(self) -> Any:
        """A sequence of the declared type."""
        return Sequence[self.typ]

    @property
    def UpdateType(self) -> Any:
        """The declared type, or a list of it."""
        return self.typ | list[self.typ]

    def copy(self) -> Self:
        """A copy that shares the list, which is never changed in place."""
        twin = object.__new__(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.accumulate = self.accumulate
        twin.values = self.values
        return twin

    def checkpoint(self) -> list[Value] | Missing:
        """The values; `MISSING` if there are none."""
        return self.values or MISSING

    def from_checkpoint(self, checkpoint: list[Value] | Missing) -> Self:
        """A channel that holds the stored values."""
        twin = self.copy()
        twin.values = [] if checkpoint is MISSING else checkpoint
        return twin

    def get(self) -> Sequence[Value]:
        """A new list of the values; raises `EmptyChannelError` if there are none."""
        if not self.values:
            raise EmptyChannelError(f"channel {self.key!r} is empty")
        return list(self.values)

    def is_available(self) -> bool:
        """Whether there are values."""
        return bool(self.values)

    def update(self, values: Sequence[Value | list[Value]]) -> bool:
        """Take all values written, in order; without `accumulate`, in place of those before."""
        published = list(_flatten(values))
        if self.accumulate:
            if published:
                self.values = [*self.values, *published]
            return bool(published)
        changed = bool(published or self.values)
        self.values = published
        return changed


def _flatten(values: Sequence[Value | list[Value]]) -> Iterator[Value]:
    for value in values:
        if isinstance(value, list):
            yield from cast("list[Value]", value)
        else:
            yield value
