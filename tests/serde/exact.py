"""Equality as the codec promises it: the same types all the way down, the same order, the same bits of floats."""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from typing import Any

from clew.serde import Codec


def is_same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, complex):
        return is_same(left.real, right.real) and is_same(left.imag, right.imag)
    if isinstance(left, defaultdict) and left.default_factory is not right.default_factory:
        return False
    if isinstance(left, deque) and left.maxlen != right.maxlen:
        return False
    if isinstance(left, dict):
        return is_same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple | deque):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, set | frozenset):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    return repr(left) == repr(right) and bool(left == right or left != left)


def again(value: Any, codec: Codec | None = None) -> Any:
    """`value` after storing and restoring; storing it once more must give the same bytes."""
    codec = codec or Codec()
    data = codec.encode(value)
    restored = codec.decode(data)
    assert codec.encode(restored) == data
    return restored
