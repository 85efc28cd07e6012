"""Compiled graphs, and the low-level way to build one from channels and nodes."""

from __future__ import annotations

from clew.pregel._builder import ChannelWriteEntry, NodeBuilder
from clew.pregel.main import Pregel

__all__ = ("ChannelWriteEntry", "NodeBuilder", "Pregel")
