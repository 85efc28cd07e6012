"""Filters that authorization handlers return: which things exist for a caller, by their metadata.

The platform's: `{"owner": "ada"}`, `{"owner": {"$eq": "ada"}}`, `{"readers": {"$contains": "ada"}}` (of a list: one, or
each of several), `$and` and `$or` of such. Invariant: what cannot be understood raises; it is never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from clew.server.errors import ApiError

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Test:
    """One thing that is asked of metadata."""

    key: str
    operator: Literal["$eq", "$contains"]
    operand: Any

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether metadata pass."""
        held = metadata.get(self.key, _ABSENT)
        if self.operator == "$eq":
            return _is_same(held, self.operand)
        if not isinstance(held, list):
            return False
        parts = cast("list[Any]", held)
        return all(any(_is_same(part, wanted) for part in parts) for wanted in _listed(self.operand))


@dataclass(frozen=True, slots=True)
class Either:
    """Filters of which one must fit."""

    filters: tuple[Filter, ...]

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether metadata pass."""
        return any(each.fits(metadata) for each in self.filters)


@dataclass(frozen=True, slots=True)
class Filter:
    """Tests that must all pass."""

    tests: tuple[Test | Either, ...]

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the metadata of each thing must contain."""
        return {each.key: each.operand for each in self._equalities()}

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a thing with this metadata exists for the caller."""
        return all(test.fits(metadata) for test in self.tests)

    def made(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The metadata of a new thing: what the filter says and they leave open is written to them. Raises `ApiError`
        403 if the thing would not exist for who makes it."""
        full = {**{each.key: each.operand for each in self._equalities()}, **metadata}
        if not self.fits(full):
            raise ApiError(
                403,
                "the metadata are not those of something that the caller may make",
                hint="a handler's filter excludes them",
            )
        return full

    def _equalities(self) -> list[Test]:
        return [each for each in self.tests if isinstance(each, Test) and each.operator == "$eq"]


def filter_of(given: Mapping[str, Any]) -> Filter:
    """A filter as a handler returns it; raises `TypeError` for what is none."""
    tests: list[Test | Either] = []
    for key, wanted in given.items():
        if key == "$and":
            for part in _filters(key, wanted):
                tests += part.tests
        elif key == "$or":
            tests.append(Either(_filters(key, wanted)))
        elif key.startswith("$"):
            raise TypeError(f"a handler's filter has no {key!r}")
        else:
            tests += _tests(key, wanted)
    return Filter(tuple(tests))


def _filters(key: str, given: Any) -> tuple[Filter, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(f"{key} of a handler's filter is a {type(given).__name__}, not a list of filters")
    return tuple(filter_of(part) for part in cast("Sequence[Mapping[str, Any]]", given))


def _tests(key: str, wanted: Any) -> list[Test]:
    if not isinstance(wanted, Mapping):
        return [Test(key, "$eq", wanted)]
    tests: list[Test] = []
    for operator, operand in cast("Mapping[str, Any]", wanted).items():
        if operator not in ("$eq", "$contains"):
            raise TypeError(f"a handler's filter for {key!r} has {operator!r}, not '$eq' or '$contains'")
        tests.append(Test(key, operator, operand))
    if not tests:
        raise TypeError(f"a handler's filter for {key!r} asks for nothing")
    return tests


def _listed(operand: Any) -> list[Any]:
    return list(cast("Sequence[Any]", operand)) if isinstance(operand, list | tuple) else [operand]


def _is_same(held: Any, wanted: Any) -> bool:
    """Equality of JSON data, in which true is not 1."""
    if isinstance(held, bool) or isinstance(wanted, bool):
        return held is wanted
    return held == wanted
