"""Names a saver meets in the writes it stores, and what channels and sends look like to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from clew.constants import ERROR, INTERRUPT, RESUME, TASKS

__all__ = ("ERROR", "INTERRUPT", "RESUME", "SCHEDULED", "TASKS", "ChannelProtocol", "SendProtocol")

SCHEDULED: Final = "__scheduled__"

Value = TypeVar("Value", covariant=True)
Update = TypeVar("Update", contravariant=True)
Stored = TypeVar("Stored")


class ChannelProtocol(Protocol[Value, Update, Stored]):
    """A channel, as far as a saver knows it: `clew.channels.base.BaseChannel` is one."""

    @property
    def ValueType(self) -> Any:
        """The type of what is read from the channel."""
        ...

    @property
    def UpdateType(self) -> Any:
        """The type of what is written to the channel."""
        ...

    def checkpoint(self) -> Stored | None:
        """What is stored of the channel."""
        ...

    def from_checkpoint(self, checkpoint: Stored | None) -> Any:
        """The channel whose stored part is `checkpoint`."""
        ...

    def update(self, values: Sequence[Update]) -> bool:
        """Apply the writes of one superstep; whether anything changed."""
        ...

    def get(self) -> Value:
        """The channel's value."""
        ...

    def consume(self) -> bool:
        """Note that a task ran because of the channel; whether anything changed."""
        ...


@runtime_checkable
class SendProtocol(Protocol):
    """A `Send`: the node it starts and the input it gives it."""

    node: str
    arg: Any

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

    def __eq__(self, value: object) -> bool: ...
