"""The closed set of classes that stored bytes may name.

A name in the bytes is looked up in a dict; nothing is imported because of it. A class is known to a graph if it is
registered, here or process-wide, or reachable through the annotations of the graph's schemas (`known_types`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, TypeVar, overload
from weakref import WeakValueDictionary

from clew.serde.rules import Refused, Rule

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Shape:
    """One known class: the name it has in bytes, and how it is taken apart and put together."""

    cls: type
    name: str
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None

    @cached_property
    def rule(self) -> Rule:
        """How its values are stored; `Refused` if its content cannot be seen from Python."""
        from clew.serde import shapes  # late: needed once a value of such a class is met

        return shapes.rule_for(self)


class TypeRegistry:
    """A set of known classes on top of an optional parent; what the parent learns later is known here too."""

    __slots__ = ("__weakref__", "_by_class", "_by_name", "_derived", "_parent")

    def __init__(self, types: Iterable[type] = (), *, parent: TypeRegistry | None = None) -> None:
        self._parent = parent
        self._by_class: dict[type, Shape] = {}
        self._by_name: dict[str, Shape | None] = {}  # None: several classes have this name
        self._derived: WeakValueDictionary[frozenset[type], TypeRegistry] = WeakValueDictionary()
        for cls in types:
            shape = Shape(cls, _default_name(cls))
            self._by_class[cls] = shape
            self._by_name[shape.name] = None if shape.name in self._by_name else shape

    def register(
        self,
        cls: T,
        *,
        name: str | None = None,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> T:
        """Make `cls` known, under `name` in stored bytes (`module:qualname` if not given), and return it.

        `encode` gives a value's content in storable types and `decode` makes a value of it; without them enums,
        named tuples, dataclasses, attrs classes, pydantic models, exceptions, subclasses of builtin types and plain
        objects are restored from their attributes, without running their code. A class defined again under its name,
        as by a reload, replaces the former one; a different class under a taken name is a ValueError.
        """
        if (encode is None) != (decode is None):
            raise ValueError(f"registering {cls.__qualname__!r} needs both encode= and decode=, or neither")
        shape = Shape(cls, name or _default_name(cls), encode, decode)
        taken = self._by_name.get(shape.name)
        if taken is not None and taken.cls is not cls and _default_name(taken.cls) != _default_name(cls):
            raise ValueError(f"the name {shape.name!r} is taken by the class {_default_name(taken.cls)!r}")
        if taken is not None:
            self._by_class.pop(taken.cls, None)
        self._by_name[shape.name] = self._by_class[cls] = shape
        return cls

    def extended(self, types: Iterable[type]) -> TypeRegistry:
        """A registry that knows `types` besides everything known here; the same object for the same types."""
        wanted = frozenset(types)
        if not wanted:
            return self
        derived = self._derived.get(wanted)
        if derived is None:
            derived = TypeRegistry(wanted, parent=self)
            self._derived[wanted] = derived
        return derived

    def shape_of(self, cls: type) -> Shape | None:
        """How `cls` is stored, or None if it is not known.

        Raises `Refused` if its name in bytes would mean another known class.
        """
        shape = self._by_class.get(cls)
        if shape is None:
            return None if self._parent is None else self._parent.shape_of(cls)
        if self._by_name.get(shape.name) is not shape:
            raise Refused(
                f"a value of type {shape.name!r} cannot be stored, since several known classes have this name",
                hint="give one of them another name with clew.serde.register(..., name=...)",
            )
        return shape

    def shape_named(self, name: str) -> Shape | None:
        """The known class that is called `name` in bytes, or None."""
        shape = self._by_name.get(name)
        if shape is None and self._parent is not None and name not in self._by_name:
            return self._parent.shape_named(name)
        return shape

    def __contains__(self, cls: type) -> bool:
        return cls in self._by_class or (self._parent is not None and cls in self._parent)


default_registry: Final = TypeRegistry()
"""The classes that `register` was called with, for every codec that has no registry of its own."""


@overload
def register(cls: T) -> T: ...
@overload
def register(
    cls: T,
    *,
    name: str | None = ...,
    encode: Callable[[Any], Any] | None = ...,
    decode: Callable[[Any], Any] | None = ...,
) -> T: ...
@overload
def register(
    *,
    name: str | None = ...,
    encode: Callable[[Any], Any] | None = ...,
    decode: Callable[[Any], Any] | None = ...,
) -> Callable[[T], T]: ...
def register(
    cls: Any = None,
    *,
    name: str | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> Any:
    """Make a class known to every graph of this process, as a call or a decorator; see `TypeRegistry.register`."""
    if cls is None:
        return partial(default_registry.register, name=name, encode=encode, decode=decode)
    return default_registry.register(cls, name=name, encode=encode, decode=decode)


def _default_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
