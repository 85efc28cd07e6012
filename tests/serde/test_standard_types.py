"""Standard types that come back as themselves, and sets whose bytes do not depend on the process."""

from __future__ import annotations

import ipaddress
import pathlib
import re
import subprocess
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from clew.errors import SerializationError
from clew.serde import Codec, TypeRegistry
from tests.serde.exact import again, is_same

_PRAGUE = ZoneInfo("Europe/Prague")


@pytest.mark.parametrize(
    "value",
    [
        (),
        (1, (2, [3, (4,)])),
        set(),
        {1, "a", (2, 3), None, 1.5, b"x"},
        frozenset({frozenset(), frozenset({1})}),
        defaultdict(list, {"a": [1]}),
        defaultdict(None, {1: 2}),
        defaultdict(Counter, {"a": Counter("aab")}),
        Counter({"a": 2, "b": -1, "c": 0}),
        OrderedDict([("b", 1), ("a", 2)]),
        OrderedDict([(1, 2)]),
        deque([1, 2, 3], maxlen=3),
        deque([(1,)]),
        range(1, 10, 3),
        slice(None, 5, -1),
        ...,
        NotImplemented,
        1 - 2j,
        complex(-0.0, float("inf")),
        Fraction(-1, 3),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        pathlib.Path("/a/b.txt"),
        pathlib.PurePosixPath("a/../b"),
        pathlib.PureWindowsPath("C:/a"),
        pathlib.PurePosixPath("broken-\udcff"),
        re.compile(r"a(b)\d", re.IGNORECASE | re.DOTALL),
        re.compile(rb"\x00"),
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("fe80::1%eth0"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("2001:db8::/32"),
        ipaddress.ip_interface("192.168.0.1/24"),
        ipaddress.ip_interface("::1/64"),
    ],
    ids=map(str, count()),
)
def test_standard_value_comes_back_exactly(value: object) -> None:
    assert is_same(again(value), value)


@pytest.mark.parametrize("text", ["0", "-0", "1.10", "1E+999999", "NaN", "-NaN123", "sNaN", "Infinity", "0E-30"])
def test_decimal_keeps_sign_exponent_and_payload(text: str) -> None:
    assert repr(again(Decimal(text))) == repr(Decimal(text))


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 2, 29, 23, 59, 59, 999999),
        datetime.min,
        datetime.max,
        datetime(2024, 10, 27, 2, 30, tzinfo=_PRAGUE),
        datetime(2024, 10, 27, 2, 30, tzinfo=_PRAGUE, fold=1),
        datetime(2024, 1, 1, fold=1),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-7), "odd")),
        date(1, 1, 1),
        time(1, 2, 3, 4),
        time(2, 30, fold=1, tzinfo=UTC),
        timedelta(days=-1, microseconds=1),
        timedelta.max,
        UTC,
        timezone(timedelta(0), "named"),
        timezone(timedelta(hours=1)),
        _PRAGUE,
    ],
    ids=ascii,
)
def test_moment_keeps_zone_and_fold(value: Any) -> None:
    restored = again(value)

    assert is_same(restored, value)
    assert getattr(restored, "fold", None) == getattr(value, "fold", None)
    assert type(getattr(restored, "tzinfo", None)) is type(getattr(value, "tzinfo", None))


def test_utc_is_the_same_object_again() -> None:
    assert again(datetime.now(UTC)).tzinfo is UTC


def test_defaultdict_of_a_known_class_keeps_its_factory() -> None:
    class Tally:
        pass

    codec = Codec(TypeRegistry([Tally]))

    restored = again(defaultdict(Tally), codec)

    assert restored.default_factory is Tally


def test_defaultdict_of_a_lambda_is_refused_with_a_remedy() -> None:
    with pytest.raises(SerializationError, match="default factory") as caught:
        Codec().encode({"counts": defaultdict(lambda: 0)})

    assert caught.value.path == "['counts']"
    assert caught.value.hint is not None
    assert "builtin type" in caught.value.hint


def test_set_bytes_are_the_same_in_every_process() -> None:
    program = (
        "from clew.serde import Codec; print(Codec().encode({'a', 'b', 'c', 1, (2, 'x'), frozenset({'p', 'q'})}).hex())"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1


def test_importing_serde_loads_no_optional_library() -> None:
    program = (
        "import sys, clew.serde; from clew.serde import Codec; Codec().decode(Codec().encode([1, (2,)])); "
        "heavy = {'pydantic', 'langchain_core', 'numpy', 'asyncio', 'sqlite3', 'zstandard'} & sys.modules.keys(); "
        "sys.exit(str(heavy) if heavy else 0)"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr
