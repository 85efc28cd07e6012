"""Graphs over a typed state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.constants import END, START
from clew.graph.state import StateGraph

if TYPE_CHECKING:
    from clew.graph.message import MessagesState, add_messages

__all__ = ("END", "START", "MessagesState", "StateGraph", "add_messages")


def __getattr__(name: str) -> Any:
    if name in ("MessagesState", "add_messages"):
        from clew.graph import message  # late: graphs without messages need nothing of it

        return getattr(message, name)
    raise AttributeError(f"module 'clew.graph' has no attribute {name!r}")
