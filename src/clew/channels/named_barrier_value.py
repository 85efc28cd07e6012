"""Joins: a channel that opens once every one of a set of names was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

from clew._missing import MISSING, Missing
from clew.channels.base import BaseChannel, Value
from clew.errors import EmptyChannelError, InvalidUpdateError

__all__ = ("NamedBarrierValue", "NamedBarrierValueAfterFinish")


class NamedBarrierValue(BaseChannel[None, Value, set[Value]]):
    """Available (with the value None) when all `names` were written, in any superstep; closes when consumed."""

    __slots__ = ("names", "seen")
    reacts_to_empty = False

    names: set[Value]
    seen: set[Value]

    def __init__(self, typ: Any, names: set[Value]) -> None:
        super().__init__(typ)
        self.names = names
        self.seen = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedBarrierValue) and cast("NamedBarrierValue[Any]", other).names == self.names

    def copy(self) -> Self:
        """A copy that shares the sets, which are never changed in place."""
        twin = object.__new__(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.names = self.names
        twin.seen = self.seen
        return twin

    def checkpoint(self) -> set[Value] | Missing:
        """The names seen; `MISSING` if there are none."""
        return self.seen or MISSING

    def from_checkpoint(self, checkpoint: set[Value] | Missing) -> Self:
        """A channel that has seen the stored names."""
        twin = self.copy()
        twin.seen = set() if checkpoint is MISSING else set(checkpoint)
        return twin

    def get(self) -> None:
        """None; raises `EmptyChannelError` while a name is missing."""
        if not self.is_available():
            raise EmptyChannelError(f"channel {self.key!r} still waits for {_listed(self.names - self.seen)}")

    def is_available(self) -> bool:
        """Whether all names were written."""
        return self.seen == self.names

    def update(self, values: Sequence[Value]) -> bool:
        """Note the names written; a name that is not expected raises `InvalidUpdateError`."""
        seen, changed = note_names(self.key, self.names, self.seen, values)
        self.seen = seen
        return changed

    def consume(self) -> bool:
        """Close an open barrier."""
        if not self.is_available():
            return False
        self.seen = set()
        return True


class NamedBarrierValueAfterFinish(BaseChannel[None, Value, tuple[set[Value], bool]]):
    """A barrier that, when all `names` were written, opens only once the run would otherwise end."""

    __slots__ = ("finished", "names", "seen")
    reacts_to_empty = False

    names: set[Value]
    seen: set[Value]
    finished: bool

    def __init__(self, typ: Any, names: set[Value]) -> None:
        super().__init__(typ)
        self.names = names
        self.seen = set()
        self.finished = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedBarrierValueAfterFinish) and (
            cast("NamedBarrierValueAfterFinish[Any]", other).names == self.names
        )

    def copy(self) -> Self:
        """A copy that shares the sets, which are never changed in place."""
        twin = object.__new__(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.names = self.names
        twin.seen = self.seen
        twin.finished = self.finished
        return twin

    def checkpoint(self) -> tuple[set[Value], bool] | Missing:
        """The names seen and whether the barrier is open; `MISSING` if none was seen."""
        return (self.seen, self.finished) if self.seen else MISSING

    def from_checkpoint(self, checkpoint: tuple[set[Value], bool] | Missing) -> Self:
        """A channel in the stored state."""
        twin = self.copy()
        seen, twin.finished = (set[Value](), False) if checkpoint is MISSING else checkpoint
        twin.seen = set(seen)
        return twin

    def get(self) -> None:
        """None; raises `EmptyChannelError` while the barrier is closed."""
        if not self.is_available():
            raise EmptyChannelError(f"channel {self.key!r} is closed")

    def is_available(self) -> bool:
        """Whether the barrier is open."""
        return self.finished and self.seen == self.names

    def update(self, values: Sequence[Value]) -> bool:
        """Note the names written; a name that is not expected raises `InvalidUpdateError`."""
        seen, changed = note_names(self.key, self.names, self.seen, values)
        self.seen = seen
        return changed

    def consume(self) -> bool:
        """Close an open barrier."""
        if not self.is_available():
            return False
        self.seen = set()
        self.finished = False
        return True

    def finish(self) -> bool:
        """Open the barrier if all names were written."""
        if self.finished or self.seen != self.names:
            return False
        self.finished = True
        return True


def note_names(key: str, names: set[Value], seen: set[Value], written: Sequence[Value]) -> tuple[set[Value], bool]:
    """`seen` with the names in `written`, and whether that is more than before; the sets given are left alone."""
    if unexpected := [name for name in written if name not in names]:
        raise InvalidUpdateError(
            f"channel {key!r} waits for {_listed(names)} and received {_listed(unexpected)}",
        )
    noted = seen.union(written)
    return (noted, True) if len(noted) > len(seen) else (seen, False)


def _listed(names: Sequence[Any] | set[Any]) -> str:
    return ", ".join(sorted(repr(name) for name in names))
