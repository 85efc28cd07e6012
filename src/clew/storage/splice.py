"""The difference of two byte strings as copies out of the old one and inserted bytes.

Made for encoded values: a longer list inside a value changes a few length headers and adds bytes at the end or in the
middle, so a greedy search that finds its footing again a few bytes further on finds nearly all there is to find.
Everything works on slices, at the speed of memcmp.
"""

from __future__ import annotations

Splice = list["bytes | list[int]"]  # bytes are inserted, [offset, length] copies from the old string

_WINDOW = 16  # bytes that must agree for two places to count as the same
_SKIPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
_REACH = 1024  # how far ahead in the old string a place is searched
_MAX_OPERATIONS = 64


def splice(old: bytes, new: bytes) -> Splice:
    """Operations that turn `old` into `new`; in the worst case one insertion of all of `new`."""
    operations: Splice = []
    i = j = 0
    while j < len(new) and len(operations) < _MAX_OPERATIONS:
        same = _common_prefix(old, i, new, j)
        if same >= _WINDOW or (same and j + same == len(new)):
            operations.append([i, same])
            i, j = i + same, j + same
            continue
        found = _find_footing(old, i, new, j)
        if found is None:
            break
        skip, i = found
        operations.append(new[j : j + skip])
        j += skip
    if j < len(new):
        operations += _finish(old, i, new, j)
    return operations


def apply_splice(old: bytes, operations: Splice) -> bytes:
    """The new string that `operations` make of `old`."""
    return b"".join([part if isinstance(part, bytes) else old[part[0] : part[0] + part[1]] for part in operations])


def splice_size(operations: Splice) -> int:
    """About how many bytes the operations take when stored."""
    return sum(len(part) + 2 if isinstance(part, bytes) else 7 for part in operations)


def _finish(old: bytes, i: int, new: bytes, j: int) -> Splice:
    same = _common_suffix(old, i, new, j)
    middle = new[j : len(new) - same]
    tail: Splice = [middle] if middle else []
    if same:
        tail.append([len(old) - same, same])
    return tail


def _find_footing(old: bytes, i: int, new: bytes, j: int) -> tuple[int, int] | None:
    """How many bytes of `new` to insert, and where in `old` copying goes on after them."""
    for skip in _SKIPS:
        window = new[j + skip : j + skip + _WINDOW]
        if len(window) < _WINDOW:
            return None
        at = old.find(window, i, i + skip + _REACH)
        if at >= 0:
            return skip, at
    return None


def _common_prefix(old: bytes, i: int, new: bytes, j: int) -> int:
    limit = min(len(old) - i, len(new) - j)
    if old[i : i + limit] == new[j : j + limit]:
        return limit
    same, step, growing = 0, 64, True
    while step:
        size = min(step, limit - same)
        if size and old[i + same : i + same + size] == new[j + same : j + same + size]:
            same += size
            step = step * 4 if growing else step // 2
        else:
            growing = False
            step = min(step, size) // 2
    return same


def _common_suffix(old: bytes, i: int, new: bytes, j: int) -> int:
    limit = min(len(old) - i, len(new) - j)
    end_old, end_new = len(old), len(new)
    same, step, growing = 0, 64, True
    while step:
        size = min(step, limit - same)
        if size and old[end_old - same - size : end_old - same] == new[end_new - same - size : end_new - same]:
            same += size
            step = step * 4 if growing else step // 2
        else:
            growing = False
            step = min(step, size) // 2
    return same
