"""What is to be sent, and what happens when it fails, apart from who waits: blocking or on an event loop.

A script is a generator that yields `Flush`es and `Pause`s; an error (of the server or the connection, as psycopg's) is
thrown into it where it happened. A connection is held from one flush to the next, and given back by a pause or at the
end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import psycopg

from clew.storage.postgres.connections import Source
from clew.storage.postgres.faults import Fault, fault_of
from clew.storage.postgres.wire import Call, Wire, wait
from clew.storage.query import Row

T = TypeVar("T")


class Flush(NamedTuple):
    """Send statements in one round trip; outside of a `begin`, they are one transaction."""

    calls: Sequence[Call]
    on_sent: Callable[[], None] | None = None


class Pause(NamedTuple):
    """Give the connection back and wait."""

    seconds: float


Script = Generator[Flush | Pause, list[list[Row]], T]


def run(script: Script[T], source: Source, *, patience: float, timeout: float, wire: Wire | None = None) -> T:
    """Run a script on the calling thread, on `wire` or on connections of `source`.

    `patience` bounds the wait for a connection, `timeout` that for an answer; both in seconds.
    """
    try:
        effect = next(script)
        while True:
            if isinstance(effect, Pause):
                if wire is not None:
                    given, wire = wire, None
                    source.give_back(given)
                time.sleep(effect.seconds)
                effect = script.send([])
                continue
            try:
                if wire is None:
                    wire = source.take(patience)
                rows = wait(wire, wire.exchange(effect.calls, effect.on_sent), timeout=timeout)
            except Exception as error:
                is_of_no_use = isinstance(error, psycopg.Error) and fault_of(error) is Fault.RECONNECT
                if wire is not None and (wire.is_dead or is_of_no_use):
                    given, wire = wire, None
                    source.discard(given)
                effect = script.throw(error)
            else:
                effect = script.send(rows)
    except StopIteration as stop:
        return stop.value
    finally:
        if wire is not None:
            source.give_back(wire)
        script.close()
