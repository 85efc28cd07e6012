"""clew's own types that may be part of a state or of what is stored about a run."""

from __future__ import annotations

from functools import cache

from clew.serde.registry import TypeRegistry

PREFIX = "clew:"


@cache
def types() -> TypeRegistry:
    """The registry of clew's own storable types, whose names in bytes begin with `PREFIX`."""
    from clew._missing import MissingType  # late: these import what serde must not need to be imported
    from clew._overwrite import Overwrite
    from clew.types import Command, GraphOutput, Interrupt, PregelTask, Send, StateSnapshot, StateUpdate, TimeoutPolicy

    registry = TypeRegistry()
    own: tuple[type, ...] = (Command, GraphOutput, Interrupt, MissingType, Overwrite, PregelTask, Send)
    for cls in (*own, StateSnapshot, StateUpdate, TimeoutPolicy):
        registry.register(cls, name=PREFIX + cls.__name__)
    return registry
