"""What an error of the server or of the connection means: try again, and how, or say so and stop."""

from __future__ import annotations

import enum
import random

import psycopg

from clew.errors import SchemaVersionError, StorageError, StorageTimeoutError, StorageUnavailableError


class Fault(enum.Enum):
    """What to do after an error."""

    AGAIN = "again"  # nothing was done; the same connection will do
    RECONNECT = "reconnect"  # the connection is gone or of no use: whether something was done must be looked up
    LOCKED = "locked"  # somebody else holds the row for longer than a moment
    TIMEOUT = "timeout"  # the server gave up on it: once more, then say so
    FATAL = "fatal"  # trying again would not help


_AGAIN = {
    "40001",  # serialization_failure: retry the whole unit
    "40P01",  # deadlock_detected
    "26000",  # a prepared statement is gone (a proxy, or DISCARD ALL): it is prepared anew
    "42P05",
    "0A000",  # cached plan must not change result type
}
_RECONNECT = {
    "25P03",  # idle_in_transaction_session_timeout: an InternalError to psycopg
    "25P04",  # transaction_timeout
    "25006",  # read_only_sql_transaction: this server is not the primary (any more)
    "53300",  # too_many_connections
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "57P05",  # idle_session_timeout
}


def fault_of(error: psycopg.Error) -> Fault:
    """What to do after `error`."""
    state = error.sqlstate
    if state is None:
        return Fault.RECONNECT if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else Fault.FATAL
    if state in _AGAIN:
        return Fault.AGAIN
    if state in _RECONNECT or state[:2] == "08":
        return Fault.RECONNECT
    if state == "55P03":
        return Fault.LOCKED
    if state == "57014":
        return Fault.TIMEOUT
    return Fault.FATAL


def pause(attempt: int) -> float:
    """How long to wait before the attempt after this many failed ones, in seconds: growing, bounded, uneven."""
    return min(0.01 * 2.0 ** min(attempt, 6), 0.5) * random.uniform(0.5, 1.0)


def typed(error: psycopg.Error, where: str, *, seconds: float = 0.0) -> StorageError:
    """The error that callers see for one of psycopg's; `seconds` is how long it was tried for."""
    state, tried = error.sqlstate, f" (tried for {seconds:.1f} s)" if seconds >= 0.1 else ""
    text = str(error).strip().splitlines()
    said = text[0] if text else type(error).__name__
    if state in ("42P01", "3F000"):
        return SchemaVersionError(
            f"the tables of clew are not in {where}: {said}",
            hint="call setup() once, with a role that may create tables",
        )
    if state == "42501":
        return StorageError(f"{where} refused: {said}", hint="grant the role rights on the tables of clew")
    match fault_of(error):
        case Fault.LOCKED:
            return StorageTimeoutError(
                f"another connection to {where} has kept a row locked for too long{tried}: {said}",
                hint="look for a stalled client in pg_stat_activity; then run it again",
            )
        case Fault.TIMEOUT:
            return StorageTimeoutError(
                f"{where} cancelled a statement{tried}: {said}", hint="raise statement_timeout, or look at the load"
            )
        case Fault.RECONNECT:
            return StorageUnavailableError(
                f"{where} cannot be reached{tried}: {said}", hint="run it again when the database is back"
            )
        case Fault.AGAIN:
            return StorageUnavailableError(f"{where} kept refusing{tried}: {said}", hint="run it again")
        case Fault.FATAL:
            return StorageError(f"{where} refused: {said}")
