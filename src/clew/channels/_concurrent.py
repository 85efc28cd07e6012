"""The errors of channels that cannot take several writes of one superstep together."""

from __future__ import annotations

from typing import Any

from clew.channels.base import BaseChannel
from clew.errors import ErrorCode, InvalidUpdateError

__all__ = ("several_overwrites", "several_writes")

_CODE = ErrorCode.INVALID_CONCURRENT_GRAPH_UPDATE


def several_writes(channel: BaseChannel[Any, Any, Any], count: int, *, hint: str | None = None) -> InvalidUpdateError:
    """The error of a channel that takes one write per superstep; the engine adds the nodes and the superstep."""
    return InvalidUpdateError(
        f"channel {channel.key!r} received {count} writes in one superstep",
        hint=hint or f"give it a reducer: {channel.key}: Annotated[{_list_type(channel.typ)}, operator.add]",
        code=_CODE,
    )


def several_overwrites(channel: BaseChannel[Any, Any, Any]) -> InvalidUpdateError:
    """The error of a reducer channel that received more than one `Overwrite` in a superstep."""
    return InvalidUpdateError(
        f"channel {channel.key!r} received more than one Overwrite in one superstep",
        hint="let one node overwrite it, or let the nodes that do run in different supersteps",
        code=_CODE,
    )


def _list_type(typ: Any) -> str:
    """The list type to suggest for a field declared as `typ`: `list` itself if it is one, else a list of it."""
    if typ is list or getattr(typ, "__origin__", None) is list:
        return "list" if typ is list else str(typ)
    name = typ.__name__ if isinstance(typ, type) else ""
    return f"list[{name}]" if name else "list"
