"""How deeply a MessagePack document nests, without decoding it.

The native decoder recurses up to about a thousand containers per call and needs some 500 bytes of C stack for each.
Extension payloads are decoded by calls inside that call, so without a bound the two multiply and overflow the stack
(measured: 16 payloads of 1,000 levels crash an 8 MB stack). Therefore the first `FREE_LEVELS` payload levels may nest
as deeply as the native decoder allows, and each further one only `NARROW_NESTING` containers; then 4 MB suffice.
"""

from __future__ import annotations

from typing import Final

MAX_LEVELS: Final = 100
FREE_LEVELS: Final = 3
NARROW_NESTING: Final = 32

# Bytes after the marker: the width of a length field, or the size of a fixed value.
_LENGTH_WIDTH: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_SIZE: Final = {
    0xC0: 0,
    0xC1: 0,
    0xC2: 0,
    0xC3: 0,
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
}


def is_narrow(payload: bytes) -> bool:
    """Whether `payload` nests at most `NARROW_NESTING` containers; extension payloads inside it do not count."""
    if len(payload) <= NARROW_NESTING:
        return True
    at, end = 0, len(payload)
    remaining: list[int] = []  # per open container, the values still to come
    while at < end:
        marker = payload[at]
        at += 1
        children = 0
        if marker < 0x80 or marker >= 0xE0:
            pass
        elif marker < 0x90:
            children = 2 * (marker & 0x0F)
        elif marker < 0xA0:
            children = marker & 0x0F
        elif marker < 0xC0:
            at += marker & 0x1F
        elif marker in _FIXED_SIZE:
            at += _FIXED_SIZE[marker]
        elif marker in _LENGTH_WIDTH:
            width = _LENGTH_WIDTH[marker]
            at += width + int.from_bytes(payload[at : at + width]) + (0xC7 <= marker <= 0xC9)
        else:  # 0xDC..0xDF: array and map with a 2- or 4-byte count
            width = 2 if marker in (0xDC, 0xDE) else 4
            children = int.from_bytes(payload[at : at + width]) * (1 if marker < 0xDE else 2)
            at += width
        if children:
            remaining.append(children)
            if len(remaining) > NARROW_NESTING:
                return False
            continue
        while remaining:
            remaining[-1] -= 1
            if remaining[-1]:
                break
            remaining.pop()
        else:
            return True
    return True
