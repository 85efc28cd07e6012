"""What a program saw, in a form in which two libraries can be compared.

Ids and times differ from run to run, so they are numbered by first appearance: `<id 3>` in one is `<id 3>` in the
other exactly if the structure is the same. An exception becomes the set of public names it can be caught by; clew's
may have more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
IDS = re.compile(rf"{UUID}|\b[0-9a-f]{{32}}\b")
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d|Z)?")
LIBRARIES = ("langgraph", "clew")
CATCHABLE = {
    "ArithmeticError",
    "EmptyChannelError",
    "EmptyInputError",
    "GraphBubbleUp",
    "GraphDrained",
    "GraphInterrupt",
    "GraphRecursionError",
    "InvalidUpdateError",
    "KeyError",
    "NodeTimeoutError",
    "NotImplementedError",
    "RecursionError",
    "RuntimeError",
    "SubgraphOverlapError",
    "TimeoutError",
    "UnknownInterruptError",
    "TypeError",
    "ValidationError",
    "ValueError",
}


@dataclass(frozen=True)
class Raised:
    """An exception, as the public names it can be caught by."""

    names: frozenset[str]

    def __repr__(self) -> str:
        return f"raised {'/'.join(sorted(self.names)) or 'an error'}"


def attempt(call: Callable[[], Any]) -> Any:
    """What `call` gives, or how it failed."""
    try:
        return call()
    except BaseException as error:  # an interrupt is not an Exception in clew
        names = {kind.__name__ for kind in type(error).__mro__}
        return Raised(frozenset(names & CATCHABLE))


class Observer:
    """Turns values into plain data, numbering ids in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def plain(self, value: Any) -> Any:
        match value:
            case str():
                return TIMES.sub("<time>", IDS.sub(self._number, value))
            case None | bool() | int() | float() | bytes() | Raised():
                return value
            case Mapping():
                return {self.plain(key): self.plain(item) for key, item in value.items()}
            case set() | frozenset():
                return {"set": sorted((self.plain(item) for item in value), key=repr)}
            case BaseException():
                return {"error": type(value).__name__, "text": str(value)}
            case type():
                return f"class {value.__name__}"
        if hasattr(value, "_fields"):
            return {type(value).__name__: {name: self.plain(getattr(value, name)) for name in value._fields}}
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *(self.plain(item) for item in value)]
        return {type(value).__name__: {name: self.plain(getattr(value, name)) for name in _field_names(value)}}

    def _number(self, match: re.Match[str]) -> str:
        return self._numbers.setdefault(match.group(), f"<id {len(self._numbers) + 1}>")


def _field_names(value: Any) -> list[str]:
    if hasattr(value, "tool_calls") or type(value).__module__.startswith("langchain_core.messages"):
        return ["content", "id"]
    if type(value).__name__ == "Interrupt":
        return ["value", "id"]
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    if hasattr(type(value), "model_fields"):
        return list(type(value).model_fields)
    if type(value).__module__.partition(".")[0] in LIBRARIES:
        return [name for name in ("node", "arg", "value", "update", "goto", "resume") if hasattr(value, name)]
    return [f"cannot observe {type(value)}"]


def differences(expected: Any, actual: Any, place: str = "") -> Iterator[str]:
    """Each place where `actual` is not what `expected` asks for."""
    if isinstance(expected, Raised) and isinstance(actual, Raised):
        if not expected.names <= actual.names:
            yield f"{place}: expected {expected}, got {actual}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        for key in expected.keys() | actual.keys():
            if key not in actual or key not in expected:
                side = "missing" if key not in actual else "unexpected"
                yield f"{place}[{key!r}]: {side}: {expected.get(key, actual.get(key))!r}"
            else:
                yield from differences(expected[key], actual[key], f"{place}[{key!r}]")
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif type(expected) is not type(actual) or expected != actual:
        yield f"{place}: expected {expected!r}, got {actual!r}"
