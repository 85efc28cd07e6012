"""Values that every saver and every store keeps exactly, and when two values are exactly the same."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from typing import Any, cast

from clew.types import Command, Interrupt, Overwrite, Send

STANDARD: dict[str, Any] = {
    "nothing": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**63 - 1, -(2**63), 2**64, 1 << 200, -(1 << 200)],
    "floats": [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324],
    "complex": 1 - 2j,
    "texts": ["", "\x00", "\u00e9", "e\u0301", "\U0001f9f6", "\ud800", "'; drop table x --", "\r\n"],
    "bytes": [b"", b"\x00\xff" * 20, bytearray(b"ab")],
    "lists": [[], [[]], [1, [2, [3]]]],
    "dicts": [{}, {"a": {"b": {}}}, {1: "int", (2, 3): "tuple", None: "none", "1": "text"}],
    "order": {"z": 1, "a": 2},
    "tuples": [(), (1, (2, ["x"]))],
    "sets": [set(), {1, "a", (2,)}, frozenset({1})],
    "collections": [defaultdict(list, {"a": [1]}), Counter("aab"), OrderedDict(b=1, a=2), deque([1, 2], maxlen=2)],
    "times": [
        datetime(2024, 2, 29, 23, 59, 59, 999999),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        date(1, 1, 1),
        time(1, 2, 3, 4),
        timedelta(days=-1, microseconds=1),
    ],
    "numbers": [Decimal("1.10"), Decimal("-0"), Fraction(-1, 3)],
    "names": [uuid.UUID(int=7), PurePosixPath("a/../b"), ip_address("127.0.0.1"), ip_network("10.0.0.0/8")],
    "patterns": re.compile(r"a(b)\d", re.IGNORECASE),
    "range": range(1, 10, 3),
    "words of graphs": [Send("node", {"a": 1}), Command(update={"a": 1}, goto="node"), Interrupt("?", id="i")],
    "overwrite": Overwrite([1]),
    "looks like code": {"lc": 2, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}},
}
"""Values of the types that need no registration, by what they are."""


class Unknown:
    """A class that nobody has registered."""


def is_same(left: Any, right: Any) -> bool:
    """Whether two values are equal, of the same types all the way down, in the same order."""
    if type(left) is not type(right):
        return False
    match left:
        case float():
            return repr(left) == repr(right)
        case dict():
            return is_same([*cast("Any", left).items()], [*right.items()])
        case list() | tuple() | deque():
            own = cast("Any", left)
            return len(own) == len(right) and all(map(is_same, own, right))
        case _:
            return bool(left == right)


def differing(found: Any, expected: dict[str, Any]) -> list[str]:
    """The names of the values that did not come back exactly."""
    return [name for name, value in expected.items() if name not in found or not is_same(found[name], value)]
