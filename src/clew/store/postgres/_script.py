"""What is said to the server, as scripts: generators that yield flushes, are sent the rows, and wait for nothing.

A flush is one round trip. Its statements run as one transaction; one that is not the last keeps its transaction open
for the next. `conversation` adds what begins and ends transactions, for connections of our own and for those that are
inside a transaction of their owner.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

from clew.storage.postgres.wire import Call
from clew.storage.query import Row

T = TypeVar("T")

Rows = list[list[Row]]  # of each statement


class Flush(NamedTuple):
    """Statements that travel together. `is_snapshot`: all reads of the transaction that they begin see one state."""

    calls: Sequence[Call]
    is_last: bool = True
    is_snapshot: bool = False


Script = Generator[Flush, Rows, T]
Conversation = Generator[list[Call], Rows, T]

_SAVEPOINT = "clew_store"


def conversation(script: Script[T], *, is_nested: bool, settings: Sequence[Call]) -> Conversation[T]:
    """The statements to send, flush by flush, for a script; `settings` are said at the start of each transaction.

    What fails is undone, and nothing else is: inside a transaction of the connection's owner, back to a savepoint.
    """
    is_open = False
    try:
        flush = next(script)
        while True:
            opening: list[Call] = []
            if not is_open:
                opening = [*_begun(flush, is_nested=is_nested), *settings]
                is_open = is_nested or not flush.is_last or flush.is_snapshot
            closing = [_ended(is_nested=is_nested)] if is_open and flush.is_last else []
            rows = yield [*opening, *flush.calls, *closing]
            if flush.is_last:
                is_open = False
            flush = script.send(rows[len(opening) : len(opening) + len(flush.calls)])
    except StopIteration as stop:
        assert not is_open, "a script ends after its last flush"
        return stop.value
    except GeneratorExit:
        raise
    except BaseException:
        if is_open:
            yield _undone(is_nested=is_nested)
        raise


def _begun(flush: Flush, *, is_nested: bool) -> list[Call]:
    if is_nested:
        return [Call(f"savepoint {_SAVEPOINT}")]
    if flush.is_snapshot:
        return [Call("begin isolation level repeatable read")]
    return (
        [] if flush.is_last else [Call("begin isolation level read committed")]
    )  # a single flush is a transaction in any case


def _ended(*, is_nested: bool) -> Call:
    return Call(f"release savepoint {_SAVEPOINT}" if is_nested else "commit")


def _undone(*, is_nested: bool) -> list[Call]:
    if is_nested:
        return [Call(f"rollback to savepoint {_SAVEPOINT}"), Call(f"release savepoint {_SAVEPOINT}")]
    return [Call("rollback")]
