"""What every channel can do, and which of its hooks the engine has to call.

A channel holds one value of the state and says how the writes of a superstep change it. The engine treats channels
as copy-on-write: it calls `copy()`, then changes the copy. So two things must stay true of every channel here:
`copy()` costs next to nothing, and no method changes a container that a copy may share; a new one is made instead.
"""

from __future__ import annotations

import copy as _copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from clew._missing import MISSING, Missing
from clew.errors import EmptyChannelError

__all__ = ("BaseChannel", "Checkpoint", "Update", "Value")

Value = TypeVar("Value")
Update = TypeVar("Update")
Checkpoint = TypeVar("Checkpoint")
Channel = TypeVar("Channel")


class BaseChannel(ABC, Generic[Value, Update, Checkpoint]):
    """The base of all channels: `typ` is the type it was declared with, `key` its name in the graph.

    A subclass defines `from_checkpoint`, `get` and `update`. If its `update` changes
    containers in place, its `copy` must copy them.
    """

    __slots__ = ("key", "typ")

    # Which calls can change the channel. The engine skips the others, so a graph of plain values costs no calls for
    # channels that nobody wrote. Set anew for each subclass, from the class that defines the method.
    reacts_to_empty: ClassVar[bool] = True
    reacts_to_consume: ClassVar[bool] = False
    reacts_to_finish: ClassVar[bool] = False
    # Whether writes to the channel are stored; False for what lives in a run only.
    is_tracked: ClassVar[bool] = True

    typ: Any
    key: str

    def __init__(self, typ: Any, key: str = "") -> None:
        self.typ = typ
        self.key = key

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for flag, method in _HOOKS:
            if flag not in vars(cls):
                setattr(cls, flag, vars(_definer(cls, method)).get(flag, True))
        if "copy" not in vars(cls) and _adds_attributes(cls) and _copies_known_slots(cls):
            cls.copy = _copy_all

    @property
    def ValueType(self) -> Any:
        """The type of the value that `get` gives; the declared type unless a subclass says otherwise."""
        return self.typ

    @property
    def UpdateType(self) -> Any:
        """The type of one write; the declared type unless a subclass says otherwise."""
        return self.typ

    def copy(self) -> Self:
        """A channel in the same state that can change without changing this one."""
        return self.from_checkpoint(self.checkpoint())

    def checkpoint(self) -> Checkpoint | Missing:
        """What to store so that `from_checkpoint` restores the channel; `MISSING` if there is nothing to store."""
        try:
            return cast("Checkpoint", self.get())  # for most channels the checkpoint is the value
        except EmptyChannelError:
            return MISSING

    @abstractmethod
    def from_checkpoint(self, checkpoint: Checkpoint | Missing) -> Self:
        """A new channel with this one's settings, in the stored state, or in the initial one for `MISSING`."""

    @abstractmethod
    def get(self) -> Value:
        """The value; raises `EmptyChannelError` if there is none."""

    def is_available(self) -> bool:
        """Whether `get` would give a value."""
        try:
            self.get()
        except EmptyChannelError:
            return False
        return True

    @abstractmethod
    def update(self, values: Sequence[Update]) -> bool:
        """Take the writes of one superstep, none included, and say whether the channel changed.

        Raises `InvalidUpdateError` if these writes cannot be taken together.
        """

    def consume(self) -> bool:
        """Learn that a task that this channel triggered has run; say whether the channel changed."""
        return False

    def finish(self) -> bool:
        """Learn that the run is about to end; say whether the channel changed (which may keep the run going)."""
        return False


_HOOKS = (("reacts_to_empty", "update"), ("reacts_to_consume", "consume"), ("reacts_to_finish", "finish"))


def _definer(cls: type, method: str) -> type:
    """The class in `cls`'s line of ancestors whose `method` it uses."""
    return next(ancestor for ancestor in cls.__mro__ if method in vars(ancestor))


def _adds_attributes(cls: type) -> bool:
    """Whether instances of `cls` hold more than what its ancestors' slots hold."""
    return vars(cls).get("__slots__", "has a __dict__") != ()


def _copies_known_slots(cls: type) -> bool:
    """Whether `cls` inherits its copy from one of clew's channels, which knows that channel's slots only."""
    definer = _definer(cls, "copy")
    return definer is not BaseChannel and definer.__module__.startswith("clew.channels.")


def _copy_all(self: Channel) -> Channel:
    """Stands in for the copy of one of clew's channels in a user's subclass of it that has attributes of its own."""
    return _copy.copy(self)
