"""One flush to the server and back: some statements, one round trip, one transaction.

Statements are sent in pipeline mode with one Sync at their end, so the server runs them as one transaction: all of
them count, or none. Written against libpq through `psycopg.pq`, since what is sent here is always the same few
statements: values go as they are, without being adapted one by one.
"""

from __future__ import annotations

import hashlib
import secrets
import select
import struct
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from clew.storage.query import Row

READ, WRITE = 1, 2
Waits = Generator[int, None, list[list[Row]]]  # yields what it waits for: READ, or READ | WRITE

_DEAD = pq.ConnStatus.BAD
_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_STALE = ("26000", "42P05", "0A000")  # a prepared statement is gone, or there already, or its tables have changed
_int2, _int4, _int8 = struct.Struct("!h").unpack, struct.Struct("!i").unpack, struct.Struct("!q").unpack
_float8 = struct.Struct("!d").unpack
_DECODERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda data: data == b"\x01",
    17: bytes,
    19: lambda data: data.decode(),  # name
    20: lambda data: _int8(data)[0],
    21: lambda data: _int2(data)[0],
    23: lambda data: _int4(data)[0],
    25: lambda data: data.decode(),
    701: lambda data: _float8(data)[0],
    1043: lambda data: data.decode(),
    2278: lambda data: None,  # void
}
_BYTEA_ARRAY = struct.Struct("!iiiii")


class Call(NamedTuple):
    """A statement with `$1` in it, and what goes there: text, whole numbers, bytes, lists of bytes, or None."""

    sql: str
    params: tuple[Any, ...] = ()


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time; whether it did what it was told is not known."""


class Wire:
    """One connection, used by one caller at a time."""

    def __init__(self, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], *, prepare: bool) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._prepared = _prepared_on(connection) if prepare else None

    @property
    def is_dead(self) -> bool:
        """Whether the connection can be used no more."""
        return self._pgconn.status == _DEAD

    @property
    def is_idle(self) -> bool:
        """Whether it is alive, and no transaction is open."""
        return self._pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def socket(self) -> int:
        """The file descriptor to wait for."""
        return self._pgconn.socket

    def exchange(self, calls: Sequence[Call], on_sent: Callable[[], None] | None = None) -> Waits:
        """Send `calls` and give the rows of each (the number of changed rows for one that has no columns).

        Raises the server's error, as the class of psycopg that belongs to it, if one failed: then none has counted.
        `on_sent` is called when all is on its way and nothing was read yet.
        """
        pgconn = self._pgconn
        is_over = False
        encoded = [encode(call.params) for call in calls]  # first: what cannot be sent costs no connection
        try:
            pgconn.enter_pipeline_mode()
            names = [self._send(call.sql, *params) for call, params in zip(calls, encoded, strict=True)]
            pgconn.pipeline_sync()
            while pgconn.flush():
                yield READ | WRITE
                pgconn.consume_input()
            if on_sent is not None:
                on_sent()
            rows, failed = yield from self._receive(names)
            pgconn.exit_pipeline_mode()
            is_over = True
        finally:
            if not is_over:
                pgconn.finish()  # nobody can tell what the next answer would belong to
        if failed is not None:
            raise failed
        return rows

    def _send(self, sql: str, values: list[bytes | None], formats: list[int]) -> bytes | None:
        """Queue one statement; gives the name that it is prepared under on the way, if it is."""
        pgconn, prepared = self._pgconn, self._prepared
        if prepared is None:
            pgconn.send_query_params(sql.encode(), values, param_formats=formats, result_format=1)
            return None
        name = prepared.name_of(sql)
        is_new = name not in prepared.names
        if is_new:
            pgconn.send_prepare(name, sql.encode())
            prepared.names.add(name)
        pgconn.send_query_prepared(name, values, param_formats=formats, result_format=1)
        return name if is_new else None

    def _receive(self, names: list[bytes | None]) -> Generator[int, None, tuple[list[list[Row]], psycopg.Error | None]]:
        prepared = self._prepared
        rows: list[list[Row]] = []
        failed: psycopg.Error | None = None
        for name in names:
            if name is not None:
                result = yield from self._result()
                failed = failed or error_in(result)
                if failed is not None and prepared is not None:
                    prepared.names.discard(name)
            result = yield from self._result()
            failed = failed or error_in(result)
            if failed is None:
                rows.append(rows_of(result))
        if (yield from self._result()).status != _SYNC:
            raise psycopg.OperationalError("the server's answers do not match what it was asked")
        if prepared is not None and failed is not None and failed.sqlstate in _STALE:
            prepared.renew()
        return rows, failed

    def _result(self) -> Generator[int, None, pq.abc.PGresult]:
        """The next result; each statement's are followed by a None, which says nothing here."""
        pgconn = self._pgconn
        while True:
            while pgconn.is_busy():
                yield READ
                pgconn.consume_input()
            result = pgconn.get_result()
            if pgconn.status == _DEAD:
                lost = None if result is None else error_in(result)
                raise lost or psycopg.OperationalError("the connection was lost")
            if result is not None:
                return result


class _Prepared:
    """What was prepared on one connection."""

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        self._suffix = b""

    def name_of(self, sql: str) -> bytes:
        """The name of a statement."""
        return _name(sql) + self._suffix

    def renew(self) -> None:
        """Use new names from now on: the server has lost the old ones, or knows them in another shape."""
        self.names.clear()
        self._suffix = b"_" + secrets.token_hex(4).encode()


def wait(wire: Wire, steps: Waits, *, timeout: float) -> list[list[Row]]:
    """Run an exchange to its end on the calling thread; raises `NoAnswerError` after `timeout` seconds of silence."""
    deadline = 0.0
    poll = select.poll()
    try:
        wants = next(steps)
        poll.register(wire.socket, _EVENTS[wants])
        while True:
            if not poll.poll(100):  # a tenth of a second, so that Ctrl-C is heard
                now = time.monotonic()
                deadline = deadline or now + timeout
                if now > deadline:
                    raise NoAnswerError(f"the server has not answered for {timeout:g} seconds")
                continue
            deadline = 0.0
            wants = steps.send(None)
            poll.modify(wire.socket, _EVENTS[wants])
    except StopIteration as stop:
        return stop.value
    except BaseException:
        steps.close()
        raise


_EVENTS = {READ: select.POLLIN, WRITE: select.POLLOUT, READ | WRITE: select.POLLIN | select.POLLOUT}


def encode(params: Sequence[Any]) -> tuple[list[bytes | None], list[int]]:
    """The bytes of parameters and their formats (1: binary). Texts go in binary format too: it has a length, so that
    a NUL is refused by the server and does not end them."""
    values: list[bytes | None] = []
    formats: list[int] = []
    for value in params:
        kind = value.__class__
        if kind is int:
            values.append(b"%d" % value)
            formats.append(0)
        elif kind is bytes or value is None:
            values.append(value)
            formats.append(1)
        elif kind is str:
            values.append(value.encode())
            formats.append(1)
        elif kind is list:
            values.append(_array(value))
            formats.append(1)
        elif kind is float:
            values.append(repr(value).encode())
            formats.append(0)
        else:
            raise TypeError(f"a {kind.__name__} is no parameter of a statement")
    return values, formats


def error_in(result: pq.abc.PGresult) -> psycopg.Error | None:
    """The exception for a result that is an error."""
    if result.status in _OK:
        return None
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    text = message.decode("utf-8", "replace").strip()
    if state is None:
        return psycopg.OperationalError(text or "the connection was lost")
    try:
        error = psycopg.errors.lookup(state.decode())(text)
    except KeyError:
        error = psycopg.DatabaseError(text)
    error.sqlstate = state.decode()
    return error


def rows_of(result: pq.abc.PGresult) -> list[Row]:
    """The rows of a result; the number of changed rows where it has no columns."""
    columns = result.nfields
    if not columns:
        return [(result.command_tuples or 0,)]
    decoders = [_DECODERS[result.ftype(column)] for column in range(columns)]
    get = result.get_value
    return [
        tuple(None if (data := get(row, column)) is None else decoder(data) for column, decoder in enumerate(decoders))
        for row in range(result.ntuples)
    ]


def _array(values: list[bytes]) -> bytes:
    """A list of bytes as PostgreSQL's binary form of `bytea[]`."""
    if not values:
        return struct.pack("!iii", 0, 0, 17)
    parts = [_BYTEA_ARRAY.pack(1, 0, 17, len(values), 1)]
    for value in values:
        parts.append(struct.pack("!i", len(value)))
        parts.append(value)
    return b"".join(parts)


@lru_cache(maxsize=512)
def _name(sql: str) -> bytes:
    """The name of a prepared statement: the same in every process, so that a proxy can share it."""
    return b"clew_" + hashlib.blake2b(sql.encode(), digest_size=10).hexdigest().encode()


_known: weakref.WeakKeyDictionary[Any, _Prepared] = weakref.WeakKeyDictionary()


def _prepared_on(connection: Any) -> _Prepared:
    """What was prepared on a connection; it lives as long as that does."""
    found = _known.get(connection)
    if found is None:
        found = _known[connection] = _Prepared()
    return found
