"""What an instance of a Python class consists of: its `__dict__`, its slots, and the content of a builtin base."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import MemberDescriptorType
from typing import Any, Final, TypeAlias, cast

from clew.serde.rules import Refused, type_name

_State: TypeAlias = dict[str, Any]

_POINTER: Final = struct.calcsize("P")
_MANAGED_DICT: Final = 1 << 4  # CPython's Py_TPFLAGS_MANAGED_DICT: the dict is not counted in __basicsize__
_OWN_PICKLING: Final = frozenset(
    {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"}
)

_Content: TypeAlias = Callable[[Any], Any]
_Fill: TypeAlias = Callable[[type, Any], Any]
_Builtin: TypeAlias = Any  # a builtin class whose methods are called unbound, on instances of its subclasses


def _immutable(base: _Builtin, content: _Content) -> tuple[_Content, _Fill]:
    return content, lambda cls, stored: base.__new__(cls, stored)


def _iterable(base: _Builtin, plain: _Content, extend: Callable[[Any, Any], None]) -> tuple[_Content, _Fill]:
    def fill(cls: type, stored: Any) -> Any:
        value = base.__new__(cls)
        extend(value, stored)
        return value

    return lambda value: plain(base.__iter__(value)), fill


def _mapping(base: _Builtin) -> tuple[_Content, _Fill]:
    def fill(cls: type, stored: Any) -> Any:
        value = base.__new__(cls)
        for key, item in stored.items():
            base.__setitem__(value, key, item)
        return value

    return lambda value: dict(base.items(value)), fill


def _defaultdict_content(value: Any) -> Any:
    return defaultdict[Any, Any](value.default_factory, dict[Any, Any].items(value))


def _filled_defaultdict(cls: type, stored: Any) -> Any:
    base: _Builtin = defaultdict
    value = base.__new__(cls)
    base.__init__(value, stored.default_factory)
    for key, item in stored.items():
        base.__setitem__(value, key, item)
    return value


def _filled_deque(cls: type, stored: Any) -> Any:
    base: _Builtin = deque
    value = base.__new__(cls)
    base.__init__(value, stored, stored.maxlen)
    return value


# For each builtin base: what gives its content in storable types, and what makes an instance with that content. Both
# use the base's own methods only.
_BASES: Final[dict[type, tuple[_Content, _Fill]]] = {
    str: _immutable(str, str.__str__),
    int: _immutable(int, int.__int__),
    float: _immutable(float, float.__float__),
    complex: _immutable(complex, lambda value: complex(value.real, value.imag)),
    bytes: _immutable(bytes, lambda value: bytes.__getitem__(value, slice(None))),
    tuple: _immutable(tuple, lambda value: [*tuple[Any, ...].__iter__(value)]),
    frozenset: _immutable(frozenset, lambda value: frozenset(frozenset[Any].__iter__(value))),
    bytearray: _iterable(bytearray, bytearray, bytearray.extend),
    list: _iterable(list, list, list[Any].extend),
    set: _iterable(set, set, set[Any].update),
    deque: (lambda value: deque[Any](deque[Any].__iter__(value), value.maxlen), _filled_deque),
    defaultdict: (_defaultdict_content, _filled_defaultdict),
    OrderedDict: _mapping(OrderedDict),
    Counter: _mapping(dict),
    dict: _mapping(dict),
}


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The parts of a class's instances: `base` is its builtin base, or object."""

    cls: type
    base: type
    slots: dict[str, MemberDescriptorType]
    has_dict: bool
    unstored: frozenset[str]  # cached properties: computed again when asked for

    @classmethod
    def of(cls, target: type) -> Anatomy:
        """The anatomy of `target`; `Refused` if part of its instances is hidden from Python."""
        base = next(parent for parent in target.__mro__ if parent in _BASES or parent is object)
        own = target.__mro__[: target.__mro__.index(base)]
        attributes = {name: item for parent in reversed(own) for name, item in parent.__dict__.items()}
        slots = {name: item for name, item in attributes.items() if isinstance(item, MemberDescriptorType)}
        generates_pickling = hasattr(target, "__dataclass_fields__") or hasattr(target, "__attrs_attrs__")
        is_old_model = hasattr(target, "__fields_set__") and hasattr(target, "__fields__")
        pickles_itself = bool(_OWN_PICKLING & attributes.keys()) and not generates_pickling and not is_old_model
        if pickles_itself or _has_hidden_state(target, base, len(slots)):
            raise Refused(
                f"a value of type {type_name(target)!r} cannot be stored from its attributes alone",
                hint=f"pass the two functions: clew.serde.register({target.__name__}, encode=..., decode=...)",
            )
        cached = frozenset(name for name, item in attributes.items() if isinstance(item, cached_property))
        return cls(target, base, slots, target.__dictoffset__ != 0, cached)

    def state(self, value: Any) -> _State:
        """The attributes of `value` that have a value."""
        state: _State = {}
        if self.has_dict:
            own: _State = value.__dict__
            state = (
                {name: item for name, item in own.items() if name not in self.unstored} if self.unstored else {**own}
            )
        for name, slot in self.slots.items():
            try:
                state[name] = slot.__get__(value)
            except AttributeError:  # a slot that was never filled
                continue
        return state

    def content(self, value: Any) -> Any:
        """What `value` holds as its builtin base."""
        return _BASES[self.base][0](value)

    def build(self, state: _State, content: Any) -> Any:
        """A new instance with these attributes and this base content, made without the class's own code."""
        if self.base is object:
            value: Any = cast("Any", object).__new__(self.cls)
        else:
            value = _BASES[self.base][1](self.cls, content)
        for name, item in state.items():
            if name in self.slots:
                self.slots[name].__set__(value, item)
            elif self.has_dict:
                value.__dict__[name] = item
        return value


def _has_hidden_state(cls: type, base: type, slot_count: int) -> bool:
    """Whether instances are larger than their visible parts, as those of extension types are."""
    size = base.__basicsize__ + _POINTER * slot_count
    if cls.__dictoffset__ != base.__dictoffset__ and not cls.__flags__ & _MANAGED_DICT:
        size += _POINTER
    if cls.__weakrefoffset__ > 0 and base.__weakrefoffset__ <= 0:
        size += _POINTER
    return cls.__basicsize__ > size
