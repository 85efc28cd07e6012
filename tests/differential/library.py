"""One namespace per library, so that a program can be written once and run on either.

Invariant: a program sees a library only through this namespace, so that what it returns differs only if the
libraries do.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace

NAMES = {
    "graph": ("END", "START", "MessagesState", "StateGraph", "add_messages"),
    "types": (
        "CachePolicy",
        "Command",
        "Interrupt",
        "Overwrite",
        "RetryPolicy",
        "Send",
        "StateUpdate",
        "TimeoutPolicy",
        "interrupt",
    ),
    "checkpoint.memory": ("InMemorySaver",),
    "store.memory": ("InMemoryStore",),
    "cache.memory": ("InMemoryCache",),
    "func": ("entrypoint", "task"),
    "managed": ("IsLastStep", "RemainingSteps"),
    "runtime": ("Runtime", "get_runtime"),
    "config": ("get_config", "get_store", "get_stream_writer"),
    "channels": ("AnyValue", "EphemeralValue", "LastValue", "Topic", "UntrackedValue"),
    "errors": ("GraphRecursionError", "InvalidUpdateError", "NodeError", "GraphInterrupt", "GraphDrained"),
    "types as t": ("StreamWriter",),
}


class Library(SimpleNamespace):
    """The public names of one library; `name` is the library's own."""

    name: str

    def config(self, thread: str = "1", **configurable: object) -> dict[str, dict[str, object]]:
        """The config of a thread."""
        return {"configurable": {"thread_id": thread, **configurable}}


@cache
def library(name: str) -> Library:
    """The namespace of `langgraph` or `clew`."""
    found: dict[str, object] = {}
    for module, names in NAMES.items():
        loaded = import_module(f"{name}.{module.partition(' ')[0]}")
        found.update((attribute, getattr(loaded, attribute)) for attribute in names)
    return Library(name=name, **found)
