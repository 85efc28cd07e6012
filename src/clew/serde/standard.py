"""The standard types that are always known: collections, dates, numbers, paths and a few more.

Each is stored under its own code, for exactly that class; a subclass must be registered. Contents are canonical:
equal values of one type give the same bytes in every process.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from ormsgpack import Fragment

from clew.serde import rules
from clew.serde.registry import TypeRegistry
from clew.serde.rules import Pack, Refused, Rule

_FACTORIES: Final[dict[str, Callable[[], Any]]] = {
    cls.__name__: cls
    for cls in (
        list,
        dict,
        set,
        frozenset,
        tuple,
        str,
        bytes,
        bytearray,
        int,
        float,
        complex,
        bool,
        OrderedDict,
        Counter,
        deque,
        defaultdict,
    )
}
_PATHS: Final = {
    cls.__name__: cls
    for cls in (
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
        pathlib.PurePath,
        pathlib.Path,
    )
}
_ADDRESSES: Final = {
    cls.__name__: cls for cls in (IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)
}
_SINGLETONS: Final = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}


def writers(types: TypeRegistry) -> dict[type, Rule]:
    """The rule for each standard type; the factories of defaultdicts may be classes in `types`."""
    return {**_writers(), defaultdict: _defaultdict_rule(types)}


def readers(types: TypeRegistry) -> dict[int, Rule]:
    """The rule for each code of a standard type."""
    return {rule.code: rule for rule in writers(types).values()}


@cache
def _writers() -> dict[type, Rule]:
    return {
        **_basic_rules(),
        **_collection_rules(),
        **_time_rules(),
        **_number_rules(),
        **dict.fromkeys(_PATHS.values(), Rule(rules.PATH, lambda v, _: [type(v).__name__, str(v)], _path)),
        **dict.fromkeys(_ADDRESSES.values(), Rule(rules.IP, lambda v, _: [type(v).__name__, str(v)], _address)),
        UUID: Rule(rules.UUID, lambda v, _: v.bytes, lambda c: UUID(bytes=c)),
        re.Pattern: Rule(rules.PATTERN, lambda v, _: [v.pattern, v.flags & ~int(re.DEBUG)], lambda c: re.compile(*c)),
    }


def _basic_rules() -> dict[type, Rule]:
    singleton = Rule(rules.SINGLETON, lambda v, _: repr(v), _SINGLETONS.__getitem__)
    return {
        bytearray: Rule(rules.BYTEARRAY, lambda v, _: bytes(v), bytearray),
        memoryview: Rule(rules.MEMORYVIEW, _view_content, _view),
        range: Rule(rules.RANGE, lambda v, _: [v.start, v.stop, v.step], lambda c: range(*c)),
        slice: Rule(rules.SLICE, lambda v, _: [v.start, v.stop, v.step], lambda c: slice(*c)),
        type(Ellipsis): singleton,
        type(NotImplemented): singleton,
    }


def _number_rules() -> dict[type, Rule]:
    return {
        int: Rule(rules.INTEGER, _integer_content, lambda c: int.from_bytes(c, "big", signed=True)),
        complex: Rule(rules.COMPLEX, lambda v, _: [v.real, v.imag], lambda c: complex(*c)),
        Decimal: Rule(rules.DECIMAL, lambda v, _: str(v), Decimal),
        Fraction: Rule(rules.FRACTION, lambda v, _: [v.numerator, v.denominator], lambda c: Fraction(*c)),
    }


def _collection_rules() -> dict[type, Rule]:
    return {
        tuple: Rule(rules.TUPLE, lambda v, _: [*v], tuple),
        set: Rule(rules.SET, _sorted_content, set),
        frozenset: Rule(rules.FROZENSET, _sorted_content, frozenset),
        deque: Rule(rules.DEQUE, lambda v, _: [[*v], v.maxlen], lambda c: deque[Any](*c)),
        Counter: Rule(rules.COUNTER, lambda v, _: {**_plain(v)}, _counter),
        OrderedDict: Rule(rules.ORDERED_DICT, lambda v, _: _plain(v), OrderedDict),
    }


def _time_rules() -> dict[type, Rule]:
    return {
        datetime: Rule(rules.DATETIME, _moment_content, lambda c: _moment(datetime, c)),
        time: Rule(rules.TIME, _moment_content, lambda c: _moment(time, c)),
        date: Rule(rules.DATE, lambda v, _: v.isoformat(), date.fromisoformat),
        timedelta: Rule(rules.TIMEDELTA, lambda v, _: [v.days, v.seconds, v.microseconds], lambda c: timedelta(*c)),
        timezone: Rule(rules.TIMEZONE, _timezone_content, _timezone),
        ZoneInfo: Rule(rules.ZONEINFO, _zone_content, ZoneInfo),
    }


def _plain(value: Any) -> dict[Any, Any]:
    return dict(value.items())


def _counter(content: dict[Any, Any]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict[Any, Any].update(counter, content)  # Counter.update would add
    return counter


def _sorted_content(value: Any, pack: Pack) -> Any:
    """The elements ordered by their bytes: iteration order differs between processes."""
    return [Fragment(data) for data in sorted([pack(item) for item in value])]


def _integer_content(value: int, pack: Pack) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _view_content(value: memoryview, pack: Pack) -> Any:
    return [value.tobytes(), value.format, [*value.shape] if value.shape is not None else [], value.readonly]


def _view(content: Any) -> memoryview:
    data, format, shape, is_readonly = content
    view: Any = memoryview(data if is_readonly else bytearray(data))
    return view if (format, shape) == ("B", [len(data)]) else view.cast(format, shape)


def _moment_content(value: Any, pack: Pack) -> Any:
    text = value.replace(tzinfo=None).isoformat()
    if value.tzinfo is None and not value.fold:
        return text
    return [text, value.fold, value.tzinfo]


def _moment(cls: type[datetime] | type[time], content: Any) -> Any:
    if type(content) is str:
        return cls.fromisoformat(content)
    text, fold, zone = content
    return cls.fromisoformat(text).replace(fold=fold, tzinfo=zone)


def _timezone_content(value: timezone, pack: Pack) -> Any:
    if value is UTC:
        return []
    return [*value.__getinitargs__()]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - the only way to see whether it has a name


def _timezone(content: Any) -> timezone:
    return timezone(*content) if content else UTC


def _zone_content(value: ZoneInfo, pack: Pack) -> str:
    if value.key is None:  # pyright: ignore[reportUnnecessaryComparison] - None for ZoneInfo.from_file without key=
        raise Refused("a ZoneInfo without a key cannot be stored", hint="use ZoneInfo(key)")
    return value.key


def _path(content: Any) -> pathlib.PurePath:
    flavour, text = content
    cls = _PATHS[flavour]
    foreign = "PosixPath" if sys.platform == "win32" else "WindowsPath"
    return _PATHS[f"Pure{foreign}"](text) if flavour == foreign else cls(text)


def _address(content: Any) -> Any:
    return _ADDRESSES[content[0]](content[1])


def _defaultdict_rule(types: TypeRegistry) -> Rule:
    def reduce(value: Any, pack: Pack) -> Any:
        factory = value.default_factory
        if factory is None:
            return [None, _plain(value)]
        name = getattr(factory, "__name__", None)
        if _FACTORIES.get(str(name)) is factory:
            return [name, _plain(value)]
        shape = types.shape_of(factory) if isinstance(factory, type) else None
        if shape is None:
            raise Refused(
                f"a defaultdict with the default factory {factory!r} cannot be stored",
                hint="use a builtin type or a registered class as the factory",
            )
        return [shape.name, _plain(value)]

    def restore(content: Any) -> Any:
        name, items = content
        if name is None:
            return defaultdict[Any, Any](None, items)
        factory = _FACTORIES.get(name)
        if factory is None:
            shape = types.shape_named(name)
            if shape is None:
                raise Refused(
                    f"stored bytes hold a defaultdict of {name!r}, which is not known here",
                    hint=f"make it known with clew.serde.register({name.rpartition(':')[2]})",
                )
            factory = shape.cls
        return defaultdict[Any, Any](factory, items)

    return Rule(rules.DEFAULTDICT, reduce, restore)
