"""State with a reducer that takes a superstep's writes as one batch.

Elsewhere this channel exists to opt one field in to storing differences. Here storage keeps differences for every
channel, so it checkpoints its value like any other, and `snapshot_frequency` is accepted and has no effect.
"""

from __future__ import annotations

import copy as _copy
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

from clew._missing import MISSING, Missing
from clew._overwrite import overwrite_of
from clew.channels._concurrent import several_overwrites
from clew.channels._initial import concrete_type, initial_value
from clew.channels._single import SingleValueChannel
from clew.channels.base import Value
from clew.channels.binop import same_reducer

__all__ = ("DeltaChannel",)


class DeltaChannel(SingleValueChannel[Value]):
    """Holds `reducer(value, [write, write, ...])`, starting at `typ()`.

    The reducer gets a shallow copy of the value, which it may change and return. An `Overwrite` replaces the value
    (`Overwrite(None)` with `typ()`); the other writes of that superstep are then dropped, and a second one raises
    `InvalidUpdateError`. `typ` is the outer type when used as `Annotated[T, DeltaChannel(reducer)]`.
    """

    __slots__ = ("reducer", "snapshot_frequency")
    reacts_to_empty = False

    reducer: Callable[[Any, Sequence[Any]], Any]
    snapshot_frequency: int

    def __init__(
        self, reducer: Callable[[Any, Sequence[Any]], Any], typ: Any = None, *, snapshot_frequency: int = 100
    ) -> None:
        if snapshot_frequency <= 0:
            raise ValueError(f"snapshot_frequency must be a positive int, not {snapshot_frequency}")
        super().__init__(concrete_type(list if typ is None else typ))
        self.reducer = reducer
        self.snapshot_frequency = snapshot_frequency

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeltaChannel):
            return False
        twin = cast("DeltaChannel[Any]", other)
        return self.snapshot_frequency == twin.snapshot_frequency and same_reducer(self.reducer, twin.reducer)

    def copy(self) -> Self:
        """A copy that shares the value."""
        twin = object.__new__(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.value = self.value
        twin.reducer = self.reducer
        twin.snapshot_frequency = self.snapshot_frequency
        return twin

    def from_checkpoint(self, checkpoint: Value | Missing) -> Self:
        """A channel that holds the stored value, or a fresh initial one."""
        twin = self.copy()
        twin.value = initial_value(self.typ) if checkpoint is MISSING else checkpoint
        return twin

    def update(self, values: Sequence[Any]) -> bool:
        """Give the writes, in order, to the reducer."""
        if not values:
            return False
        overwrites = [new for found, new in map(overwrite_of, values) if found]
        if len(overwrites) > 1:
            raise several_overwrites(self)
        if overwrites:
            new = overwrites[0]
            self.value = cast("Value", initial_value(self.typ) if new is None else _copy.copy(new))
            return True
        base = initial_value(self.typ) if self.value is MISSING else _copy.copy(self.value)
        self.value = self.reducer(base, list(values))
        return True
