"""Long lists of langchain-core messages: those that did not change are neither encoded nor decoded again.

A chat appends a few messages to a list of hundreds. Encoding them all at each commit, to catch one that was changed in
place, would cost more than everything else. So a cursor remembers which objects it has encoded, with their contents
packed natively (0.5 us for a message, where encoding takes 1.7): if a list still begins with the same objects of the
same contents, their bytes are known. And a state keeps the messages that were decoded from it, for itself alone:
whoever loads it gets copies (0.9 us, where decoding takes 2.9).

Invariants: an item is taken as unchanged only if it is the same object, of the same class, with the same fields set and
the same contents at any depth, compared as bytes; two loads never share an object that can be changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import islice
from operator import attrgetter, eq, is_
from typing import Any, TypeGuard, cast

import ormsgpack

from clew.serde._plain import BIN8, BIN16, BIN32, OPTIONS
from clew.storage.values import LIST, Encoder, Value, array_header, encode_value

MIN_ITEMS = 16
_new = object.__new__
_fields_set = attrgetter("__pydantic_fields_set__")
Chunk = tuple[int, bytes]  # how many items, and what they hold
Recipe = tuple[type[Any], dict[str, Any], tuple[tuple[str, Callable[[], Any]], ...], set[str], Callable[[], Any] | None]


class Decoded:
    """The messages of a list value as decoded, and what they hold. Never handed out, never changed."""

    __slots__ = ("chunks", "items", "recipes")

    def __init__(self, items: list[Any], recipes: list[Recipe], chunks: tuple[Chunk, ...]) -> None:
        self.items = items
        self.recipes = recipes
        self.chunks = chunks


class Memo:
    """The objects whose encoded form is `value`, and what they held then."""

    __slots__ = ("_chunks", "_fields", "_items", "_kinds", "value")

    def __init__(self, items: list[Any], fields: list[Any], chunks: tuple[Chunk, ...], value: Value) -> None:
        self._items = items
        self._kinds = list(map(type, items))
        self._fields = fields  # for each item the names of the fields that were set; nobody else's sets
        self._chunks = chunks
        self.value = value

    def begins(self, items: list[Any]) -> bool:
        """Whether `items` begins with the objects remembered, and they are as they were."""
        if len(items) < len(self._items) or not all(map(is_, self._items, items)):
            return False
        if not all(map(is_, self._kinds, map(type, items))) or not all(map(eq, self._fields, map(_fields_set, items))):
            return False
        start = 0
        for count, held in self._chunks:
            if _contents(items[start : start + count]) != held:
                return False
            start += count
        return True

    def rest(self, items: list[Any]) -> list[Any]:
        """What `items` has behind the objects remembered."""
        return items[len(self._items) :]

    def followed(self, rest: list[Any], held: bytes, value: Value) -> Memo:
        """The memo of a list that goes on with `rest`."""
        items = self._items + rest
        return Memo(items, self._fields + _fields_of(rest), _joined(self._chunks, (len(rest), held), items), value)


def is_long(value: Any) -> TypeGuard[list[Any]]:
    """Whether a channel's value is a list worth remembering."""
    return type(cast("object", value)) is list and len(value) >= MIN_ITEMS


def encode_messages(name: str, items: list[Any], codec: Encoder, old: Value | None, memos: dict[str, Memo]) -> Value:
    """As `encode_value` for a channel's list, with what `memos` knows of it, which is brought up to date."""
    memo = memos.pop(name, None)
    if memo is None or memo.value is not old or not memo.begins(items):
        held = contents(items)  # before encoding: what is changed meanwhile must not pass for what was encoded
        fields = [] if held is None else _fields_of(items)
        new = encode_value(items, codec, old)
        if held is not None and new.kind == LIST:
            memos[name] = Memo(list(items), fields, ((len(items), held),), new)
        return new
    rest = memo.rest(items)
    if not rest:
        memos[name] = memo
        return memo.value
    held = contents(rest)
    new = memo.value.grown(codec.encode_items(rest))
    if held is not None:
        memos[name] = memo.followed(rest, held, new)
    return new


def decode_messages(value: Value, decode: Callable[[bytes], Any]) -> tuple[list[Any], Memo] | None:
    """A list value as objects of the caller's own, with their memo; None if it does not hold messages alone."""
    known = cast("Decoded | None", value.decoded)
    start = 0 if known is None else len(known.items)
    if known is None or start < len(value.data):
        added = decode(array_header(len(value.data) - start) + b"".join(islice(value.data, start, None)))
        held = contents(added)
        if held is None:
            return None
        recipes, chunk = list(map(_recipe, added)), (len(added), held)
        if known is None:
            known = Decoded(added, recipes, (chunk,))
        else:
            items = known.items + added
            known = Decoded(items, known.recipes + recipes, _joined(known.chunks, chunk, items))
        value.decoded = known
    own = _made(known.recipes)
    return own, Memo(list(own), list(map(_fields_set, known.items)), known.chunks, value)


def contents(items: Sequence[Any]) -> bytes | None:
    """What messages hold, as bytes; None if one is not a message, or holds anything but plain data."""
    if not items or not _message_types().issuperset(map(type, items)):
        return None
    held = _contents(items)
    if held is None or any(item.__pydantic_private__ is not None for item in items):
        return None
    if (BIN8 in held or BIN16 in held or BIN32 in held) and any(
        _holds_bytes(item.__dict__) or _holds_bytes(item.__pydantic_extra__) for item in items
    ):
        return None  # what passes for a byte string here may be a buffer
    return held


def _contents(items: Sequence[Any]) -> bytes | None:
    try:
        return ormsgpack.packb(
            [
                [item.__dict__ for item in items],
                [item.__pydantic_extra__ for item in items],
                [item.__pydantic_private__ for item in items],
            ],
            None,
            OPTIONS,
        )
    except (TypeError, AttributeError):
        return None


def _fields_of(items: list[Any]) -> list[Any]:
    return [set(item.__pydantic_fields_set__) for item in items]


def _joined(chunks: tuple[Chunk, ...], added: Chunk, items: list[Any]) -> tuple[Chunk, ...]:
    """`chunks` and one more; small ones at the end become one, so that there are few and an item is packed seldom."""
    joined = [*chunks, added]
    count = added[0]
    while len(joined) > 1 and joined[-2][0] <= 2 * count:
        count += joined[-2][0]
        del joined[-1]
    if count == added[0]:
        return (*chunks, added)
    held = _contents(items[len(items) - count :])
    assert held is not None, "each part of it could be packed"
    joined[-1] = (count, held)
    return tuple(joined)


def _recipe(message: Any) -> Recipe:
    own: dict[str, Any] = message.__dict__
    extra: dict[str, Any] | None = message.__pydantic_extra__
    fresh = tuple((field, _copier(own[field])) for field, part in own.items() if isinstance(part, (dict, list)))
    return (
        cast("type[Any]", type(message)),
        own,
        fresh,
        message.__pydantic_fields_set__,
        None if extra is None else _copier(extra),
    )


def _made(recipes: Iterable[Recipe]) -> list[Any]:
    """Messages of plain data, sharing nothing that can be changed."""
    made: list[Any] = []
    set_fields, set_were_set, set_extra, set_private = _setters()
    for cls, fields, fresh, were_set, extra in recipes:
        own = fields.copy()
        for field, copy in fresh:
            own[field] = copy()
        message: Any = _new(cls)
        set_fields(message, own)
        set_were_set(message, were_set.copy())
        set_extra(message, None if extra is None else extra())
        set_private(message, None)
        made.append(message)
    return made


@cache
def _setters() -> list[Callable[[Any, Any], None]]:
    """What fills the four places of a pydantic object, without its own `__setattr__`."""
    from pydantic import BaseModel  # late: loaded long ago where there are messages

    names = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
    return [BaseModel.__dict__[name].__set__ for name in names]


def _copier(part: dict[str, Any] | list[Any]) -> Callable[[], Any]:
    """What makes a copy of `part`, at any depth."""
    inner: Iterable[Any] = part.values() if type(part) is dict else part
    is_flat = not any(type(item) is dict or type(item) is list for item in inner)
    return part.copy if is_flat else partial(_plain_copy, part)


def _plain_copy(part: Any) -> Any:
    kind = type(cast("object", part))
    if kind is dict:
        return {key: _plain_copy(item) for key, item in part.items()}
    if kind is list:
        return [_plain_copy(item) for item in part]
    return part


def _holds_bytes(part: object) -> bool:
    kind = type(part)
    if kind is dict:
        return any(map(_holds_bytes, cast("Iterable[object]", cast("dict[str, object]", part).values())))
    if kind is list:
        return any(map(_holds_bytes, cast("list[object]", part)))
    return kind is bytes or kind is bytearray or kind is memoryview


def _message_types() -> frozenset[type]:
    """The classes of langchain-core's messages, where that is loaded."""
    return _known_types() if "langchain_core.messages" in sys.modules else frozenset()


@cache
def _known_types() -> frozenset[type]:
    from clew.serde import langchain

    return frozenset(langchain.writers())  # what is no model among them has no fields, and is not packed
