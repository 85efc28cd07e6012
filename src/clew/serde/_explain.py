"""Where inside a value the part is that cannot be stored. Runs only after a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from clew.serde.rules import Refused

if TYPE_CHECKING:
    from clew.errors import SerializationError
    from clew.serde._rulebook import RuleBook

_PLAIN: Final = (str, int, float, bool, bytes, bytearray, memoryview, list, dict, type(None))
_ORDERED: Final[set[type]] = {list, tuple, deque}
_UNORDERED: Final[set[type]] = {set, frozenset}
_CONTAINERS: Final = {dict, *_ORDERED, *_UNORDERED}
_MAX_SEGMENTS: Final = 100


def locate(value: Any, accepts: Callable[[Any], bool], rulebook: RuleBook) -> str:
    """The path to the innermost part of `value` that is not accepted, as in `[3].meta['when']`; empty for itself."""
    path: list[str] = []
    while len(path) < _MAX_SEGMENTS and _is_container(value, rulebook):
        for segment, part in _parts(value):
            if not accepts(part):
                path.append(segment)
                value = part
                break
        else:
            break
    return "".join(path)


def relocated(error: SerializationError, prefix: str) -> SerializationError:
    """A copy of the `SerializationError` `error` whose path begins with `prefix`, the channel or field it was in."""
    where = f" (at {error.path})" if error.path else ""
    path = prefix + error.path
    message = f"{str(error).removesuffix(where)} (at {path})"
    copy = type(error)(message, hint=error.hint, path=path)
    copy.__cause__ = error.__cause__
    return copy


def _is_container(value: Any, rulebook: RuleBook) -> bool:
    """Whether `value` itself could be stored if its parts could."""
    cls = type(cast("object", value))
    if cls in _PLAIN:
        return True
    try:
        rulebook.writer(cls)
    except Refused:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if _is_named_tuple(value):
        yield from ((f".{name}", getattr(value, name)) for name in value._fields)
        return
    kinds = {base for base in type(cast("object", value)).__mro__ if base in _CONTAINERS}
    if dict in kinds:
        for key, item in value.items():
            yield f"[key {_short(key)}]", key
            yield f"[{_short(key)}]", item
    elif kinds & _ORDERED:
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif kinds & _UNORDERED:
        yield from ((f"[element {_short(item)}]", item) for item in value)
    yield from _attributes(value)


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(cast("Any", value), "_fields")


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    extra: dict[str, Any] = getattr(value, "__pydantic_extra__", None) or {}
    private: dict[str, Any] = getattr(value, "__pydantic_private__", None) or {}
    for name, item in {**getattr(value, "__dict__", {}), **extra, **private}.items():
        yield f".{name}", item
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 60 else text[:57] + "..."
