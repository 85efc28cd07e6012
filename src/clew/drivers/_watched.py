"""Failpoints around effects: `effect.commit.before`, `effect.commit.after` and so on, for every kind of effect.

Invariant: a process without failpoints pays one check per run, and nothing per effect.
"""

from __future__ import annotations

from typing import Any, TypeVar

from clew import _failpoints
from clew.engine.superstep import Steps

T = TypeVar("T")


def watched(engine: Steps[T]) -> Steps[T]:
    """The engine itself, or, where failpoints are set, one that passes them before and after each effect."""
    return _passing(engine) if _failpoints.armed() else engine


def _passing(engine: Steps[T]) -> Steps[T]:
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = engine.send(reply) if error is None else engine.throw(error)
        except StopIteration as stop:
            return stop.value
        name = type(effect).__name__.lower()
        reply = error = None
        try:
            _failpoints.hit(f"effect.{name}.before")
            reply = yield effect
            _failpoints.hit(f"effect.{name}.after")
        except GeneratorExit:
            engine.close()
            raise
        except BaseException as raised:
            error = raised
