"""What looks on between an engine and its driver: failpoints around effects (`effect.commit.before`,
`effect.commit.after` and so on, for every kind of effect), and telemetry.

Invariant: a process that has neither pays one check of each per run, and nothing per effect.
"""

from __future__ import annotations

from typing import Any, TypeVar

from clew import _failpoints, _observing
from clew._scope import RunScope
from clew.engine.superstep import Steps

T = TypeVar("T")


def watched(engine: Steps[T], scope: RunScope) -> Steps[T]:
    """The engine itself, or, where somebody looks on, one that does the same."""
    if _failpoints.armed():
        engine = _passing(engine)
    return engine if _observing.follow is None else _observing.follow(engine, scope)


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
