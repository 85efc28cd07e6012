"""What SQLite's errors mean to a user: which file, what happened, what to do."""

from __future__ import annotations

import sqlite3

from clew.errors import CorruptRecordError, SchemaVersionError, StorageError, StorageTimeoutError


def typed(error: sqlite3.Error, path: str, busy_timeout: float) -> StorageError:
    """The error to raise in place of one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    where = f"database {path!r}"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageTimeoutError(
            f"{where} was kept locked by another connection for {busy_timeout:g} seconds",
            hint="end the transaction that holds it, or pass a longer busy_timeout",
        )
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        why = "the disk is full" if name == "SQLITE_FULL" else f"the disk failed ({name})"
        return StorageError(
            f"{where} cannot be written: {why}; what was committed before is intact",
            hint="make room, then run the thread again: it goes on from its last checkpoint",
        )
    if name.startswith("SQLITE_READONLY"):
        return StorageError(f"{where} is read-only", hint="give this process write access to the file and its folder")
    if name == "SQLITE_NOTADB":
        return StorageError(f"{path!r} is not a SQLite database", hint="name another file, or one that does not exist")
    if name.startswith("SQLITE_CORRUPT") or "Could not decode to UTF-8" in str(error):
        return damaged(path, error)
    if name.startswith("SQLITE_CANTOPEN"):
        return StorageError(
            f"{where} cannot be opened: {error}", hint="does its folder exist, and may this user write there?"
        )
    if "no such table" in str(error):
        return SchemaVersionError(f"{where} lost clew's tables: {error}", hint="call setup() on the saver")
    if "thread" in str(error) and isinstance(error, sqlite3.ProgrammingError):
        return StorageError(
            f"the connection to {where} may only be used on the thread that opened it",
            hint="open it with check_same_thread=False, or use from_conn_string",
        )
    return StorageError(f"{where} failed: {error}", hint=None)


def damaged(path: str, error: Exception) -> CorruptRecordError:
    """The error for a file whose pages are not what SQLite wrote."""
    return CorruptRecordError(
        f"database {path!r} is damaged: {error}",
        hint="restore it from a backup; `clew doctor` shows what can still be read",
    )
