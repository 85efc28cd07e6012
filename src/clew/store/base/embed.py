"""Embedding: from values to texts, and from texts to vectors.

A store takes any function from texts to vectors, plain or async, or an object with LangChain's embedding methods;
nothing here needs LangChain, unless a model is given by its name.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast, runtime_checkable

from clew.errors import StorageError

__all__ = (
    "AEmbeddingsFunc",
    "Embeddings",
    "EmbeddingsFunc",
    "EmbeddingsLambda",
    "StoreConfigError",
    "ensure_embeddings",
    "get_text_at_path",
    "tokenize_path",
)

EmbeddingsFunc = Callable[[Sequence[str]], list[list[float]]]
"""A function that gives one vector per text."""

AEmbeddingsFunc = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""An async function that gives one vector per text."""

_CLOSING: Final = {"[": "]", "{": "}"}
_START_OF_TOKEN: Final = ".[{"


class StoreConfigError(StorageError, ValueError):
    """A store is configured in a way that cannot work, or its embedding function breaks its contract."""


@runtime_checkable
class Embeddings(Protocol):
    """What a store needs of an embedding model. LangChain's embeddings have it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, for texts that are stored."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text that is searched for."""
        ...

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        ...

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without blocking the event loop."""
        ...


class EmbeddingsLambda:
    """`Embeddings` made from one function.

    A plain function serves sync calls, and async calls in a thread; an async function serves async calls only.
    """

    def __init__(self, func: EmbeddingsFunc | AEmbeddingsFunc) -> None:
        if not callable(func):
            raise StoreConfigError(
                f"an embedding function is of type {type(func).__name__}",
                hint="give a function that takes a list of texts and gives a list of vectors",
            )
        self._func = func
        self._is_async = _is_async(func)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text.

        Raises:
            StoreConfigError: The function is async.
        """
        if self._is_async:
            raise StoreConfigError(
                "the embedding function is async and cannot serve a sync call",
                hint="use aput, asearch and abatch, or give the store a plain function",
            )
        return cast("EmbeddingsFunc", self._func)(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text; a plain function runs in a thread."""
        if self._is_async:
            return await cast("AEmbeddingsFunc", self._func)(texts)
        return await _in_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return (await self.aembed_documents([text]))[0]


class _SyncEmbeddings(EmbeddingsLambda):
    """`Embeddings` made from an object that has the sync methods only."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.embed_documents)
        self._model = model

    def embed_query(self, text: str) -> list[float]:
        return self._model.embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        return await _in_thread(self.embed_query, text)


def ensure_embeddings(embed: Embeddings | EmbeddingsFunc | AEmbeddingsFunc | str | None) -> Embeddings:
    """`Embeddings` from what a user gives: a function, an embedding object, or a model's name ("provider:model").

    Raises:
        StoreConfigError: Nothing usable was given, or a model is named and LangChain is not installed.
    """
    if embed is None:
        raise StoreConfigError("an index has no embedding function", hint="set 'embed' in the index configuration")
    if isinstance(embed, str):
        return _named_embeddings(embed)
    if isinstance(embed, Embeddings):
        return embed
    if hasattr(embed, "embed_documents") and hasattr(embed, "embed_query"):
        return _SyncEmbeddings(embed)
    return EmbeddingsLambda(embed)


def _named_embeddings(name: str) -> Embeddings:
    try:
        # late: an optional dependency, needed for models given by name only
        from langchain.embeddings import init_embeddings  # pyright: ignore
    except ImportError as error:
        raise StoreConfigError(
            f"the embedding model {name!r} is given by name, and langchain is not installed",
            hint="pip install langchain and the provider's package, or give an embedding function",
        ) from error
    return cast("Embeddings", init_embeddings(name))


def _is_async(func: Any) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


async def _in_thread(func: Callable[..., Any], *arguments: Any) -> Any:
    import asyncio  # late: keeps asyncio out of the import of clew.graph

    return await asyncio.to_thread(func, *arguments)


def tokenize_path(path: str) -> list[str]:
    """Split a path into its steps: "a.b[0].{c,d}" gives ["a", "b", "[0]", "{c,d}"]."""
    tokens: list[str] = []
    position = 0
    while position < len(path):
        if path[position] == ".":
            position += 1
            continue
        end = _end_of_token(path, position)
        tokens.append(path[position:end])
        position = end
    return tokens


def _end_of_token(path: str, start: int) -> int:
    opening = path[start]
    if opening not in _CLOSING:
        return next((at for at in range(start, len(path)) if path[at] in _START_OF_TOKEN), len(path))
    depth = 0
    for at in range(start, len(path)):
        depth += (path[at] == opening) - (path[at] == _CLOSING[opening])
        if depth == 0:
            return at + 1
    return len(path)


def get_text_at_path(obj: Any, path: str | list[str]) -> list[str]:
    """The texts that a path leads to inside a value, none if it leads nowhere.

    "a.b" goes into dicts; "[0]", "[-1]" and "[*]" into lists; "*" into every member; "{a,b.c}" picks several fields.
    An empty path and "$" give the whole value. Numbers and booleans become text, dicts and lists JSON.
    """
    if isinstance(obj, Mapping) and not isinstance(obj, dict):
        obj = dict(cast("Mapping[str, Any]", obj))
    if not path or path == "$":
        return [_json(obj)]
    return _texts(obj, tokenize_path(path) if isinstance(path, str) else path)


def _texts(found: Any, tokens: list[str]) -> list[str]:
    if not tokens:
        return _text(found)
    token, rest = tokens[0], tokens[1:]
    if token.startswith("{") and token.endswith("}"):
        return [text for member in _picked(found, token) for text in _text(member)] if isinstance(found, dict) else []
    return [text for member in _members(found, token) for text in _texts(member, rest)]


def _text(found: Any) -> list[str]:
    match found:
        case str() | int() | float():
            return [str(found)]
        case dict() | list():
            return [_json(found)]
        case _:
            return []


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _members(found: Any, token: str) -> list[Any]:
    """What one step of a path leads to."""
    if token.startswith("[") and token.endswith("]"):
        return _elements(cast("list[Any]", found), token[1:-1]) if isinstance(found, list) else []
    match found:
        case dict():
            fields = cast("dict[Any, Any]", found)
            if token == "*":
                return list(fields.values())
            return [fields[token]] if token in fields else []
        case list() if token == "*":
            return cast("list[Any]", found)
        case _:
            return []


def _elements(found: list[Any], index: str) -> list[Any]:
    if index == "*":
        return found
    try:
        return [found[int(index)]]
    except (ValueError, IndexError):
        return []


def _picked(found: Any, token: str) -> list[Any]:
    """What each of the fields listed in braces leads to."""
    members: list[Any] = []
    for field in token[1:-1].split(","):
        current: list[Any] = [found]
        steps = tokenize_path(field.strip())
        for step in steps:
            current = [
                cast("dict[Any, Any]", member)[step]
                for member in current
                if isinstance(member, dict) and step in member
            ]
        members.extend(current if steps else [])
    return members
