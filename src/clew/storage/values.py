"""Values in encoded form, and what changed between two of them.

A value is a list of encoded items, a dict of encoded items, or one opaque byte string. Differences are taken between
encoded forms and never between objects, so a value that was mutated in place shows its change like any other, and
prune, copy and verify work on bytes whose types nobody knows.

Invariant: `apply(old, diff(old, new))` equals `new` byte for byte, dict order included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import xxhash

from clew.storage.splice import Splice, apply_splice, splice, splice_size

LIST, DICT, OPAQUE = 0, 1, 2
_KEEP, _RUNS, _KEYS, _SPLICE = 3, 4, 5, 6
Delta = list[Any]

_SPLICE_FROM = 200  # bytes; what is shorter is written whole
_WORTH = 0.7  # a difference of this share of the value or more is not worth it: write the value
_HASH_MASK = (1 << 64) - 1
_TEXT = frozenset((str,))
_SCALARS = frozenset((int, float, bool, type(None)))


class Encoder(Protocol):
    """What this module needs of `clew.serde.Codec` to write."""

    def encode(self, value: Any) -> bytes: ...

    def encode_items(self, values: Sequence[Any]) -> list[bytes]: ...


class Value:
    """One channel's value in encoded form. Immutable by convention: differences make new ones, sharing the items."""

    __slots__ = ("_hash", "_hasher", "_share", "data", "kind", "size")

    kind: int
    data: Any
    size: int
    _hash: int | None
    _hasher: Any
    _share: tuple[str, int] | None

    def __init__(self, kind: int, data: Any, size: int, hasher: Any = None) -> None:
        self.kind = kind
        self.data = data
        self.size = size
        self._hash = None
        self._hasher = hasher
        self._share = None

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
        return Value(LIST, self.data + added, self.size + len(tail) + 3 * len(added), hasher)

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


def diff(old: Value | None, new: Value) -> Delta:
    """What turns `old` into `new`: a difference where that is much shorter, else the full value."""
    if old is None or old.kind != new.kind:
        return full(new)
    if new.kind == LIST:
        delta, size = _diff_lists(old.data, new.data)
    elif new.kind == DICT:
        delta, size = _diff_dicts(old.data, new.data)
    else:
        delta, size = _diff_opaque(old.data, new.data)
    return delta if delta is not None and size < new.size * _WORTH else full(new)


def full(value: Value) -> Delta:
    """The whole value in the form in which a difference is stored."""
    return [value.kind, value.data]


def apply(old: Value | None, delta: Delta) -> Value:
    """The value that `delta` makes of `old`."""
    match delta[0]:
        case 0:
            return list_value(delta[1])
        case 1:
            return dict_value(delta[1])
        case 2:
            return opaque_value(delta[1])
        case 3 if old is not None and old.kind == LIST:
            return old.grown(delta[2]) if delta[1] == len(old.data) else list_value(old.data[: delta[1]] + delta[2])
        case 4 if old is not None and old.kind == LIST:
            return list_value(_apply_runs(old.data, delta[1]))
        case 5 if old is not None and old.kind == DICT:
            return dict_value(_apply_keys(old.data, delta[1], delta[2]))
        case 6 if old is not None and old.kind == OPAQUE:
            return opaque_value(apply_splice(old.data, delta[1]))
        case _:
            raise ValueError(f"a difference of kind {delta[0]!r} does not fit the value before it")


def apply_decoded(before: list[Any], delta: Delta, decode: Any) -> list[Any] | None:
    """As `apply`, on a list of decoded items: what was decoded is shared, new items go through `decode`.

    None when the difference needs the encoded items.
    """
    match delta[0]:
        case 0:
            return [decode(item) for item in delta[1]]
        case 3:
            return before[: delta[1]] + [decode(item) for item in delta[2]]
        case 4:
            out: list[Any] = []
            for part in delta[1]:
                if isinstance(part, bytes):
                    out.append(decode(part))
                elif isinstance(part[1], int):
                    out += before[part[0] : part[0] + part[1]]
                else:
                    return None
            return out
        case _:
            return None


def state_hash(values: Mapping[str, Value]) -> int:
    """The fingerprint of a whole state; independent of the order of channels."""
    return sum(value.share(name) for name, value in values.items()) & _HASH_MASK


def leaves(delta: Delta) -> Iterable[tuple[Any, Any]]:
    """Every place (container, key) of a stored difference that holds the bytes of a leaf, or the number of a spill."""
    match delta[0]:
        case 2:
            yield delta, 1
        case 0:
            yield from ((delta[1], index) for index in range(len(delta[1])))
        case 1:
            yield from ((delta[1], key) for key in delta[1])
        case 3:
            yield from ((delta[2], index) for index in range(len(delta[2])))
        case 5:
            yield from ((delta[2], key) for key, item in delta[2].items() if not isinstance(item, list))
        case _:
            yield from ((delta[1], index) for index, part in enumerate(delta[1]) if not isinstance(part, list))


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


def _diff_lists(old: list[bytes], new: list[bytes]) -> tuple[Delta | None, int]:
    common = min(len(old), len(new))
    if new[:common] == old[:common]:
        added = new[common:]
        return [_KEEP, common, added], sum(map(len, added)) + 3 * len(added) + 4
    prefix = next(index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    limit = common - prefix
    pairs = zip(reversed(old), reversed(new), strict=False)
    suffix = next((index for index, (a, b) in enumerate(pairs) if index >= limit or a != b), limit)
    middle = _diff_middle(old, prefix, len(old) - suffix, new[prefix : len(new) - suffix])
    runs = ([[0, prefix]] if prefix else []) + middle + ([[len(old) - suffix, suffix]] if suffix else [])
    return [_RUNS, runs], sum(_run_size(run) for run in runs)


def _diff_middle(old: list[bytes], start: int, stop: int, new: list[bytes]) -> list[Any]:
    """Copy runs and insertions for the part of a list between its unchanged ends."""
    if stop - start == len(new) and len(new) <= 4:
        return [_edited(index, old[index], item) for index, item in enumerate(new, start)]
    places = {item: index for index, item in zip(range(stop - 1, start - 1, -1), old[start:stop][::-1], strict=True)}
    runs: list[Any] = []
    for item in new:
        place = places.get(item)
        if place is None:
            runs.append(item)
            continue
        last = runs[-1] if runs else None
        if isinstance(last, list) and last[0] + last[1] < len(old) and old[last[0] + last[1]] == item:
            last[1] += 1
        else:
            runs.append([place, 1])
    return runs


def _edited(index: int, old: bytes, new: bytes) -> Any:
    if old == new:
        return [index, 1]
    operations = _worthwhile_splice(old, new)
    return new if operations is None else [index, operations]


def _run_size(run: Any) -> int:
    if isinstance(run, bytes):
        return len(run) + 3
    return 6 if isinstance(run[1], int) else splice_size(run[1]) + 4


def _apply_runs(old: list[bytes], runs: Iterable[Any]) -> list[bytes]:
    out: list[bytes] = []
    for run in runs:
        if isinstance(run, bytes):
            out.append(run)
        elif isinstance(run[1], int):
            out += old[run[0] : run[0] + run[1]]
        else:
            index = cast(int, run[0])
            out.append(apply_splice(old[index], run[1]))
    return out


def _diff_dicts(old: dict[str, bytes], new: dict[str, bytes]) -> tuple[Delta | None, int]:
    if len(old) == len(new) and list(old) == list(new):
        gone: list[str] = []
    else:
        gone = [key for key in old if key not in new]
        survivors = [key for key in old if key in new] if gone else list(old)
        if survivors + [key for key in new if key not in old] != list(new):
            return None, 0  # reordered: the difference would lose the order
    changed: dict[str, Any] = {}
    size = sum(len(key) + 2 for key in gone) + 4
    for key, item in new.items():
        before = old.get(key)
        if before == item:
            continue
        operations = None if before is None or len(item) < _SPLICE_FROM else _worthwhile_splice(before, item)
        changed[key] = item if operations is None else operations
        size += len(key) + 3 + (len(item) if operations is None else splice_size(operations))
    return [_KEYS, gone, changed], size


def _apply_keys(old: dict[str, bytes], gone: Iterable[str], changed: Mapping[str, Any]) -> dict[str, bytes]:
    out = dict(old)
    for key in gone:
        del out[key]
    for key, item in changed.items():
        out[key] = apply_splice(old[key], cast(Splice, item)) if isinstance(item, list) else item
    return out


def _diff_opaque(old: bytes, new: bytes) -> tuple[Delta | None, int]:
    operations = _worthwhile_splice(old, new)
    return (None, 0) if operations is None else ([_SPLICE, operations], splice_size(operations))


def _worthwhile_splice(old: bytes, new: bytes) -> Splice | None:
    if len(new) < _SPLICE_FROM or len(old) < _SPLICE_FROM:
        return None
    operations = splice(old, new)
    return operations if splice_size(operations) < len(new) * _WORTH else None
