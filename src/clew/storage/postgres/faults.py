"""What an error of the server or of the connection means: try again, and how, or say so and stop."""

from __future__ import annotations

import enum
import random
import re

import psycopg
from psycopg_pool import PoolClosed, TooManyRequests

from clew.errors import SchemaVersionError, StorageError, StorageTimeoutError, StorageUnavailableError


class Fault(enum.Enum):
    """What to do after an error."""

    AGAIN = "again"  # nothing was done; the same connection will do
    RECONNECT = "reconnect"  # the connection is gone or of no use: whether something was done must be looked up
    LOCKED = "locked"  # somebody else holds the row for longer than a moment
    TIMEOUT = "timeout"  # the server gave up on it: once more, then say so
    FATAL = "fatal"  # trying again would not help


class NotLetInError(psycopg.OperationalError):
    """The server was reached and has refused the connection, for a reason that stays."""


class NoneFreeError(psycopg.OperationalError):
    """Every connection of a pool that can connect stayed in use."""


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
_NO_PLAN = ("26000", "42P05", "0A000")
_READ_ONLY = "25006"
# What libpq says when it cannot connect has no code. Where a server speaks another language than English, such an
# error is taken for one that passes, and is tried for as long as those are.
_NOT_LET_IN = re.compile(
    r"authentication failed|no password supplied|(database|role) \".*\" does not exist|pg_hba\.conf"
    r"|is not permitted to log in|permission denied for database|SSL was required|certificate verify failed"
)
_MAY_PASS = re.compile(r"refused|timeout|timed out|starting up|shutting down|too many|reset|unreachable|recovery mode")
_HINTS = {  # for what is refused, by the class of its code
    "22": "this is a value that the database cannot hold; the message says which",
    "42": "run setup() of this version of clew, and look whether somebody has altered its tables",
    "53": "free disk space or memory of the database server, and run it again",
    "54": "make what the graph stores in one step smaller",
    "58": "look into the log of the database server",
    "XX": "look into the log of the database server; `clew doctor` shows what can still be read",
}


def fault_of(error: psycopg.Error) -> Fault:
    """What to do after `error`."""
    state = error.sqlstate
    if isinstance(error, NotLetInError | PoolClosed):
        return Fault.FATAL
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


def is_refusal(error: psycopg.Error) -> bool:
    """Whether an error of connecting says that trying again is of no use: a wrong password, no such database."""
    text = str(error)
    return bool(_NOT_LET_IN.search(text)) and not _MAY_PASS.search(text)


def pause(attempt: int) -> float:
    """How long to wait before the attempt after this many failed ones, in seconds: growing, bounded, uneven."""
    return min(0.01 * 2.0 ** min(attempt, 6), 0.5) * random.uniform(0.5, 1.0)


def typed(error: psycopg.Error, where: str, *, seconds: float = 0.0) -> StorageError:
    """The error that callers see for one of psycopg's; `seconds` is how long it was tried for."""
    state, tried = error.sqlstate, f" (tried for {seconds:.1f} s)" if seconds >= 0.1 else ""
    text = str(error).strip().splitlines()
    said = text[0] if text else type(error).__name__
    if state == "3F000" and "create in" in said:
        return SchemaVersionError(
            f"there is no schema for the tables of clew in {where}: {said}",
            hint="make the one that search_path names, or give `schema=`, which setup() makes",
        )
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
        case Fault.RECONNECT if state == _READ_ONLY:
            return StorageUnavailableError(
                f"{where} only takes reads{tried}: {said}",
                hint="is it a standby? name every server in the connection string, and target_session_attrs=read-write",
            )
        case Fault.RECONNECT if isinstance(error, NoneFreeError | TooManyRequests):
            return StorageTimeoutError(
                f"no connection to {where} became free{tried}: {said}",
                hint="raise the pool's max_size or pool_timeout, or look at who keeps its connections",
            )
        case Fault.RECONNECT:
            return StorageUnavailableError(
                f"{where} cannot be reached{tried}: {said}", hint="run it again when the database is back"
            )
        case Fault.AGAIN if state in _NO_PLAN:
            return StorageUnavailableError(
                f"{where} keeps losing prepared statements{tried}: {said}",
                hint="behind a proxy that shares connections between clients, open the saver with prepare=False",
            )
        case Fault.AGAIN:
            return StorageUnavailableError(f"{where} kept refusing{tried}: {said}", hint="run it again")
        case Fault.FATAL if isinstance(error, NotLetInError):
            return StorageError(
                f"{where} does not let this client in: {said}", hint="look at the user, password and database name"
            )
        case Fault.FATAL if isinstance(error, PoolClosed):
            return StorageError(f"the pool of connections to {where} is closed: {said}", hint="open it first")
        case Fault.FATAL:
            hint = _HINTS.get((state or "")[:2], "the message is the database's own; look there first")
            return StorageError(f"{where} refused: {said}", hint=hint)
