"""A title from what a run was given: the beginning of the first thing that a human said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_LENGTH = 80
_HUMAN = ("human", "user")


def first_words(input: Any) -> str | None:
    """The beginning of the first message of a human in a run's input, at most 80 characters; None if there is none."""
    if isinstance(input, Mapping):
        parts = cast("Mapping[str, Any]", input)
        found = [parts["messages"]] if "messages" in parts else list(parts.values())
    else:
        found = [input]
    for value in found:
        for message in cast("list[Any]", value) if isinstance(value, list | tuple) else [value]:
            text = _said(message)
            if text:
                return _shortened(text)
    return None


def _said(message: Any) -> str | None:
    """What a message says, if a human says it."""
    match message:
        case str():
            return message
        case (str() as role, content):
            return _text(content) if role in _HUMAN else None
        case {"role": role, "content": content} | {"type": role, "content": content}:
            return _text(content) if role in _HUMAN else None
        case _:
            is_human = getattr(message, "type", None) == "human"
            return _text(getattr(message, "content", None)) if is_human else None


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        for part in cast("list[Any]", content):
            match part:
                case str() | {"type": "text", "text": str()}:
                    return part if isinstance(part, str) else cast("str", part["text"])
                case _:
                    pass
    return None


def _shortened(text: str) -> str | None:
    words = " ".join(text.replace("\x00", " ").split())
    if len(words) <= _LENGTH:
        return words or None
    return words[: _LENGTH - 1].rstrip() + "…"
