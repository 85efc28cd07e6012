"""Compiled graphs, and the low-level way to build one from channels and nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.pregel._builder import ChannelWriteEntry, NodeBuilder
    from clew.pregel.main import Pregel

__all__ = ("ChannelWriteEntry", "NodeBuilder", "Pregel")


def __getattr__(name: str) -> Any:
    # Late, for start-up time: building a graph needs nothing of what runs it.
    if name == "Pregel":
        from clew.pregel.main import Pregel

        return Pregel
    if name in __all__:
        from clew.pregel import _builder

        return getattr(_builder, name)
    raise AttributeError(f"module 'clew.pregel' has no attribute {name!r}")
