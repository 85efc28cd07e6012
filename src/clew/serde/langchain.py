"""langchain-core's messages, documents and prompt values: compact, exact, and fast both ways.

Fields are taken straight from the instance and put straight into a new one, without validation. A field that has its
usual value (`_USUAL`, a fixed table, so that bytes keep their meaning when langchain-core changes a default) is not
written. Imported when a value of such a class is stored, or when bytes hold one of this module's codes; subclasses
must be registered like any other class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, cast

from clew.serde.rules import Pack, Refused, Rule

# Invariant: a class keeps its code for ever; new classes are added at the end.
_CODES: Final = {
    64: ("messages", "HumanMessage"),
    65: ("messages", "AIMessage"),
    66: ("messages", "SystemMessage"),
    67: ("messages", "ToolMessage"),
    68: ("messages", "ChatMessage"),
    69: ("messages", "FunctionMessage"),
    70: ("messages", "RemoveMessage"),
    71: ("messages", "HumanMessageChunk"),
    72: ("messages", "AIMessageChunk"),
    73: ("messages", "SystemMessageChunk"),
    74: ("messages", "ToolMessageChunk"),
    75: ("messages", "ChatMessageChunk"),
    76: ("messages", "FunctionMessageChunk"),
    77: ("documents", "Document"),
    78: ("prompt_values", "StringPromptValue"),
    79: ("prompt_values", "ChatPromptValue"),
    80: ("prompt_values", "ChatPromptValueConcrete"),
    81: ("prompt_values", "ImagePromptValue"),
    82: ("documents", "Blob"),
    83: ("messages", "BaseMessage"),
    84: ("messages", "BaseMessageChunk"),
    85: ("messages", "TextAccessor"),
}

_MISSING: Final = object()
_USUAL: Final[dict[str, Any]] = {
    "additional_kwargs": {},
    "response_metadata": {},
    "metadata": {},
    "name": None,
    "id": None,
    "tool_calls": [],
    "invalid_tool_calls": [],
    "tool_call_chunks": [],
    "usage_metadata": None,
    "chunk_position": None,
    "artifact": None,
    "status": "success",
}
_set = object.__setattr__


@cache
def writers() -> dict[type, Rule]:
    """The rule for each class of the installed langchain-core."""
    return {cls: readers()[code] for code, cls in _classes().items()}


@cache
def readers() -> dict[int, Rule]:
    """The rule for each code; imports langchain-core, and raises `Refused` if it is not installed."""
    return {
        code: _text_rule(code, cls) if issubclass(cls, str) else _model_rule(code, cls)
        for code, cls in _classes().items()
    }


@cache
def _classes() -> dict[int, type]:
    try:
        from langchain_core import documents, messages, prompt_values
        from langchain_core.documents import base as document_base
        from langchain_core.messages import base
    except ImportError as error:
        raise Refused(
            "stored bytes hold langchain-core messages, and langchain-core is not installed",
            hint="install it with: pip install 'clew[langchain]'",
        ) from error
    places: dict[str, list[Any]] = {
        "messages": [messages, base, messages.ai, messages.chat, messages.function, messages.tool],
        "documents": [documents, document_base],
        "prompt_values": [prompt_values],
    }
    found: dict[int, type] = {}
    cls: Any
    for code, (place, name) in _CODES.items():
        cls = next((getattr(module, name) for module in places[place] if hasattr(module, name)), None)
        if cls is not None:  # absent in other versions of langchain-core
            found[code] = cls
    return found


def _text_rule(code: int, cls: Any) -> Rule:
    """What `message.text` gives: text that, for older callers, can be called."""
    return Rule(code, lambda value, pack: str.__str__(value), lambda content: str.__new__(cls, content))


def _model_rule(code: int, cls: Any) -> Rule:
    usual = _usual_values(cls)
    plan = tuple(usual.items())
    template = {field: None if item is _MISSING else item for field, item in plan}
    fresh: list[tuple[str, Callable[[], Any]]] = [
        (field, factory) for field, item in plan for factory in (dict, list) if type(item) is factory
    ]
    allows_extra = cls.model_config.get("extra") == "allow"
    defaults = {field: info for field, info in cls.__pydantic_fields__.items() if not info.is_required()}

    def reduce(value: Any, pack: Pack) -> Any:
        own = value.__dict__
        stored: dict[str, Any] = {}
        for field, default in plan:
            item = own.get(field, _MISSING)
            if item is default or (item == default if type(item) is type(default) else item is _MISSING):
                continue
            stored[field] = item
        is_ordinary = value.__pydantic_fields_set__ == stored.keys() and len(own) == len(plan)
        if is_ordinary and not value.__pydantic_extra__ and value.__pydantic_private__ is None:
            return stored
        peculiar = _peculiarities(value, stored, usual)
        return [stored, peculiar] if peculiar else stored

    def restore(content: Any) -> Any:
        stored: dict[str, Any] = content
        peculiar = None
        if type(content) is list:
            stored, peculiar = cast("list[Any]", content)
        own = template.copy()
        for field, make in fresh:
            own[field] = make()
        own.update(stored)
        extra: dict[str, Any] | None = {} if allows_extra else None
        if len(own) > len(template):  # fields that the installed langchain-core does not have
            lost = {field: own.pop(field) for field in stored if field not in template}
            extra = lost if allows_extra else None
        value = cls.__new__(cls)
        _set(value, "__dict__", own)
        _set(value, "__pydantic_fields_set__", set(stored))
        _set(value, "__pydantic_extra__", extra)
        _set(value, "__pydantic_private__", None)
        if peculiar:
            _apply(value, peculiar)
        return value

    for field, info in defaults.items():  # a field without a usual value that older bytes do not have
        if usual[field] is _MISSING and info.default_factory is None:
            template[field] = info.default
    return Rule(code, reduce, restore)


def _usual_values(cls: Any) -> dict[str, Any]:
    """For each field of `cls`, in order, the value that is not written, or `_MISSING` where every value is."""
    usual: dict[str, Any] = {}
    for field, info in cls.__pydantic_fields__.items():
        if field == "type" and isinstance(info.default, str):
            usual[field] = info.default
        else:
            usual[field] = _MISSING if info.is_required() else _USUAL.get(field, _MISSING)
    return usual


def _peculiarities(value: Any, stored: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """What a value has that its fields do not say: fields set to their usual value, extras, private attributes."""
    were_set = value.__pydantic_fields_set__
    parts = {
        "unset": [field for field in stored if field not in were_set],
        "set": sorted(field for field in were_set if field not in stored),
        "absent": [field for field in usual if field not in value.__dict__],
        "extra": value.__pydantic_extra__ or None,
        "private": value.__pydantic_private__,
    }
    return {name: part for name, part in parts.items() if part is not None and part != []}


def _apply(value: Any, peculiar: dict[str, Any]) -> None:
    for field in peculiar.get("absent", ()):
        value.__dict__.pop(field, None)
    were_set = value.__pydantic_fields_set__
    were_set.difference_update(peculiar.get("unset", ()))
    were_set.update(peculiar.get("set", ()))
    if "extra" in peculiar:
        _set(value, "__pydantic_extra__", {**(value.__pydantic_extra__ or {}), **peculiar["extra"]})
    if "private" in peculiar:
        _set(value, "__pydantic_private__", peculiar["private"])
