"""What changed between two values in encoded form.

Invariant: `apply(old, diff(old, new))` equals `new` byte for byte, dict order included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from clew.storage.splice import Splice, apply_splice, splice, splice_size
from clew.storage.values import DICT, LIST, OPAQUE, Delta, Value, dict_value, list_value, opaque_value

_KEEP, _RUNS, _KEYS, _SPLICE = 3, 4, 5, 6  # after the three kinds of full values
_SPLICE_FROM = 200  # bytes; what is shorter is written whole
_WORTH = 0.7  # a difference of this share of the value or more is not worth it: write the value


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
