"""Values in encoded form: a list of encoded items, a dict of encoded items, or one opaque byte string.

Everything the log compares and stores is in this form, never objects: a value that was mutated in place shows its
change like any other, and prune, copy and verify work on bytes whose types nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import xxhash

LIST, DICT, OPAQUE = 0, 1, 2
Delta = list[Any]  # how a value, or what changed in one, is stored: a kind and its data; see `clew.storage.delta`

_HASH_MASK = (1 << 64) - 1
_TEXT = frozenset((str,))
_SCALARS = frozenset((int, float, bool, type(None)))


class Encoder(Protocol):
    """What this module needs of `clew.serde.Codec` to write."""

    def encode(self, value: Any) -> bytes: ...

    def encode_items(self, values: Sequence[Any]) -> list[bytes]: ...


class Value:
    """One channel's value in encoded form. Immutable by convention: differences make new ones, sharing the items."""

    __slots__ = ("_hash", "_hasher", "_share", "data", "decoded", "kind", "size")

    kind: int
    data: Any
    size: int
    _hash: int | None
    _hasher: Any
    _share: tuple[str, int] | None
    decoded: object  # what `clew.storage.memo` keeps of a list, or None

    def __init__(self, kind: int, data: Any, size: int, hasher: Any = None, decoded: object = None) -> None:
        self.kind = kind
        self.data = data
        self.size = size
        self._hash = None
        self._hasher = hasher
        self._share = None
        self.decoded = decoded

    @property
    def hash(self) -> int:
        """The fingerprint of the content; worked out when first asked for."""
        if self._hash is None:
            self._hash = self._fingerprint()
        return self._hash

    def share(self, channel: str) -> int:
        """What the value adds to the fingerprint of a state (modulo 2**64), as the value of `channel`."""
        known = self._share
        if known is None or known[0] != channel:
            seed = self.hash ^ self.kind
            known = self._share = (channel, xxhash.xxh3_64_intdigest(channel.encode(), seed=seed))
        return known[1]

    def grown(self, added: list[bytes]) -> Value:
        """A list value with `added` at its end; what was fingerprinted before is not read again."""
        if not added:
            return self
        tail = b"".join(added)
        hasher = None
        if self._hasher is not None:
            hasher = self._hasher.copy()
            hasher.update(tail)
        return Value(LIST, self.data + added, self.size + len(tail) + 3 * len(added), hasher, self.decoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and _same(self, other)

    def __hash__(self) -> int:
        return self.hash

    def __repr__(self) -> str:
        return f"Value({('list', 'dict', 'opaque')[self.kind]}, {self.size} bytes)"

    def _fingerprint(self) -> int:
        if self.kind == OPAQUE:
            return xxhash.xxh3_64_intdigest(self.data)
        if self.kind == DICT:
            return sum(_key_hash(key, item) for key, item in self.data.items()) & _HASH_MASK
        if self._hasher is None:
            self._hasher = xxhash.xxh3_64(b"".join(self.data))
        return self._hasher.intdigest() ^ len(self.data)


_NONE = Value(OPAQUE, b"\xc0", 1)  # the commonest value of all: what routing channels hold


def encode_value(value: Any, encoder: Encoder, old: Value | None = None) -> Value:
    """The encoded form of a channel's value; where it continues `old`, what it shares with it costs little."""
    if value is None:
        return _NONE
    kind = type(cast(object, value))
    if kind is list and not _SCALARS.issuperset(map(type, value)):
        return list_value(encoder.encode_items(value), old)
    if kind is dict and _has_text_keys(value):
        return dict_value(dict(zip(value, encoder.encode_items(list(value.values())), strict=True)), old)
    return opaque_value(encoder.encode(value), old)


def encode_full(value: Any, encoder: Encoder) -> Delta:
    """A value in the form of a full difference, for writes: nothing is compared with it."""
    if value is None:
        return [OPAQUE, _NONE.data]
    kind = type(cast(object, value))
    if kind is list and not _SCALARS.issuperset(map(type, value)):
        return [LIST, encoder.encode_items(value)]
    if kind is dict and _has_text_keys(value):
        return [DICT, dict(zip(value, encoder.encode_items(list(value.values())), strict=True))]
    return [OPAQUE, encoder.encode(value)]


def decode_value(value: Value, decode: Callable[[bytes], Any]) -> Any:
    """The object that a value in encoded form stands for."""
    return decode_full(value.kind, value.data, decode)


def decode_full(kind: int, data: Any, decode: Callable[[bytes], Any]) -> Any:
    """The object that a full difference stands for."""
    if kind == LIST:
        return decode(array_header(len(data)) + b"".join(data)) if data else []
    if kind == DICT:
        return {key: decode(item) for key, item in data.items()}
    return decode(data)


def array_header(count: int) -> bytes:
    """The MessagePack header of an array, so that a list of encoded items decodes in one native call."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2) if count < 1 << 16 else b"\xdd" + count.to_bytes(4)


def opaque_value(data: bytes, old: Value | None = None) -> Value:
    """A value of one opaque byte string; `old` itself if that is the same."""
    if old is not None and old.kind == OPAQUE and old.data == data:
        return old
    return Value(OPAQUE, data, len(data))


def dict_value(data: dict[str, bytes], old: Value | None = None) -> Value:
    """A value of encoded items by key; `old` itself if that is the same."""
    if old is not None and old.kind == DICT and old.data == data and list(old.data) == list(data):
        return old
    return Value(DICT, data, sum(map(len, data)) + sum(map(len, data.values())) + 4 * len(data))


def list_value(items: list[bytes], old: Value | None = None) -> Value:
    """A value of encoded items in order; `old` itself if that is the same, and sharing its items if it only grew."""
    if old is not None and old.kind == LIST and items[: len(old.data)] == old.data:
        return old.grown(items[len(old.data) :])
    return Value(LIST, items, sum(map(len, items)) + 3 * len(items))


def state_hash(values: Mapping[str, Value]) -> int:
    """The fingerprint of a whole state; independent of the order of channels."""
    return sum(value.share(name) for name, value in values.items()) & _HASH_MASK


def _same(a: Value, b: Value) -> bool:
    if a.kind != b.kind or a.hash != b.hash or a.data != b.data:
        return False
    return a.kind != DICT or list(a.data) == list(b.data)


def _has_text_keys(value: dict[Any, Any]) -> bool:
    if not _TEXT.issuperset(map(type, value)):
        return False
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        return False  # a lone surrogate: the codec knows how to keep it, a record's own keys do not
    return True


def _key_hash(key: str, item: bytes) -> int:
    return xxhash.xxh3_64_intdigest(item, seed=xxhash.xxh3_64_intdigest(key.encode()))
