"""Reaching the current run from inside a node, without asking for it in the node's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clew._scope import current_task

if TYPE_CHECKING:
    from clew.store.base import BaseStore

__all__ = ("get_config", "get_store", "get_stream_writer")


def get_config() -> dict[str, Any]:
    """The configuration of the node this is called in, with langchain-core's `RunnableConfig` keys."""
    return current_task("get_config()").config()


def get_store() -> BaseStore | None:
    """The store the graph was compiled with."""
    return current_task("get_store()").run.store


def get_stream_writer() -> Callable[[Any], None]:
    """The writer for `stream_mode="custom"`; does nothing when nobody reads that mode."""
    return current_task("get_stream_writer()").writer()
