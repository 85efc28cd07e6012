"""The list of programs: a function of a library, and what is known of where the two libraries differ on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = Callable[[Any], Any]


@dataclass(frozen=True)
class Program:
    """`body` gives what it saw. With `differs`, clew is meant to give `clew(what the peer gave)` instead."""

    name: str
    body: Body
    differs: str = ""
    clew: Callable[[Any], Any] | None = None


PROGRAMS: dict[str, Program] = {}


def program(body: Body) -> Body:
    """Add a program on which both libraries agree."""
    PROGRAMS[body.__name__] = Program(body.__name__, body)
    return body


def differing(reason: str, clew: Callable[[Any], Any]) -> Callable[[Body], Body]:
    """Add a program on which clew differs on purpose: `clew` turns what the peer gave into what clew must give."""

    def add(body: Body) -> Body:
        PROGRAMS[body.__name__] = Program(body.__name__, body, reason, clew)
        return body

    return add
