"""Where encrypted threads are kept, and what an intruder sees and can do there.

An intruder reads every byte, and changes rows by the named queries that the rules use, so a test of tampering is the
same on every backend.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.serde.compress import encrypted_body, unpack
from clew.storage.bound import unbound
from clew.storage.log import StepRow
from clew.storage.query import Query, Row

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))


def serde(*keys: str, **settings: Any) -> EncryptedSerializer:
    """A serializer with these keys ("old", "new"), of which the last one encrypts."""
    known = {"old": KEY, "new": OTHER_KEY}
    names = keys or ("old",)
    return EncryptedSerializer({name: known[name] for name in names}, current=names[-1], **settings)


class Memory:
    """Dicts, shared by every saver that is opened."""

    def __init__(self) -> None:
        self._tables = InMemorySaver()._tables

    def saver(self, serde: Any = None, **settings: Any) -> Any:
        """A new saver on the same storage."""
        saver = InMemorySaver(serde=serde, **settings)
        saver._tables = self._tables
        return saver

    def dump(self) -> bytes:
        """Every byte that is stored."""
        tables = self._tables
        return pickle.dumps((tables._heads, tables._steps, tables._pending, tables._spill, tables._versions))

    def close(self) -> None:
        pass


class Sqlite:
    """One file, opened anew for every saver."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "threads.db"
        self._savers = contextlib.ExitStack()

    def saver(self, serde: Any = None, **settings: Any) -> Any:
        """A new saver on the same storage."""
        opened = SqliteSaver.from_conn_string(str(self._path), serde=serde, synchronous="NORMAL", **settings)
        return self._savers.enter_context(opened)

    def dump(self) -> bytes:
        """Every byte that is stored, free pages and the write-ahead log included."""
        return b"".join(path.read_bytes() for path in sorted(self._path.parent.glob("threads.db*")))

    def close(self) -> None:
        self._savers.close()


class Postgres:
    """One database, reached by connections of each saver's own."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._savers = contextlib.ExitStack()

    def saver(self, serde: Any = None, **settings: Any) -> Any:
        """A new saver on the same storage."""
        opened = PostgresSaver.from_conn_string(self._conninfo, serde=serde, max_size=2, **settings)
        return self._savers.enter_context(opened)

    def dump(self) -> bytes:
        """Every byte that is stored."""
        found: list[bytes] = []
        with psycopg.connect(self._conninfo) as connection:
            tables = connection.execute("select oid::regclass::text from pg_class where relkind = 'r'").fetchall()
            for (table,) in tables:
                if table.startswith("clew"):
                    with connection.cursor().copy(f"copy {table} to stdout (format binary)") as rows:  # type: ignore[arg-type]
                        found += map(bytes, rows)
        assert found, "there are tables"
        return b"".join(found)

    def close(self) -> None:
        self._savers.close()


Backend = Memory | Sqlite | Postgres


@contextlib.contextmanager
def backend_named(name: str, request: Any, folder: Path) -> Generator[Backend]:
    """A backend without any thread; `request` gives a database where that is needed."""
    opened: Backend
    match name:
        case "memory":
            opened = Memory()
        case "sqlite":
            opened = Sqlite(folder)
        case _:
            opened = Postgres(request.getfixturevalue("database"))
    try:
        yield opened
    finally:
        opened.close()


def query(saver: Any, name: str, *params: Any) -> list[Row]:
    """Run one named query on the saver's storage, past all of its rules."""

    def rule() -> Any:
        return (yield Query(name, params))

    return saver.run(saver._op("", rule, kind="tamper"))


def line_of(saver: Any, thread: str, ns: str = "", tenant: str = "") -> int:
    """The number of a namespace."""
    return query(saver, "head_line", tenant, thread, ns)[0][0]


def steps_of(saver: Any, thread: str, ns: str = "", branch: int = 0) -> list[Row]:
    """The stored rows of a branch: branch, seq, key_seq, ..., body."""
    return query(saver, "step_chain", "", line_of(saver, thread, ns), branch, 0, 1000)


def pending_of(saver: Any, thread: str, ns: str = "") -> list[Row]:
    """The stored rows of what waits: branch, seq, task_id, epoch, body."""
    return query(saver, "pending_list", "", line_of(saver, thread, ns))


def spills_of(saver: Any, thread: str) -> dict[bytes, bytes]:
    """The stored large leaves, by name."""
    names = [name for (name,) in query(saver, "spill_list", "", thread)]
    return {name: query(saver, "spill_read", "", thread, name)[0][0] for name in names}


def bodies(saver: Any) -> list[bytes]:
    """Every stored body of every thread."""
    return [body for body, _ in _stored(saver)]


def plaintexts(saver: Any) -> list[bytes]:
    """Every stored record that can be read without a key, decompressed."""
    return [unpack(envelope) for _, envelope in _stored(saver) if encrypted_body(envelope) is None]


def _stored(saver: Any) -> Iterator[tuple[bytes, bytes]]:
    """Every stored body, with its envelope as far as no key is needed for that."""
    for (thread,) in query(saver, "thread_names", ""):
        yield from ((body, body) for body in spills_of(saver, thread).values())
        for _, ns, *_ in query(saver, "head_list", "", thread):
            yield from ((row[4], row[4]) for row in pending_of(saver, thread, ns))
            for branch in range(5):
                for row in steps_of(saver, thread, ns, branch):
                    is_encrypted = encrypted_body(row[8]) is not None
                    yield row[8], row[8] if is_encrypted else unbound(StepRow(*row))


def set_step(saver: Any, thread: str, row: Row, body: Any, ns: str = "") -> None:
    """Put another body into a stored step."""
    query(saver, "step_rewrite", row[2], body, "", line_of(saver, thread, ns), row[0], row[1])


def replace_step(saver: Any, thread: str, row: Row, **columns: Any) -> None:
    """Put a step back with other columns."""
    names = ("branch", "seq", "key_seq", "checkpoint_id", "root_branch", "root_seq", "run_id", "created_at", "body")
    changed = dict(zip(names, row, strict=True)) | columns
    line = line_of(saver, thread)
    query(saver, "step_drop", "", line, row[0], row[1])
    query(saver, "step_add", "", line, *changed.values())


def set_pending(saver: Any, thread: str, row: Row, body: Any, **columns: Any) -> None:
    """Put another body, or a row at another place, among what waits."""
    changed = dict(zip(("branch", "seq", "task_id", "epoch"), row, strict=False)) | columns
    query(saver, "pending_put", "", line_of(saver, thread), *changed.values(), body)


def set_spill(saver: Any, thread: str, name: bytes, body: Any) -> None:
    """Put another body under the name of a large leaf."""
    query(saver, "spill_drop", "", thread, name)
    query(saver, "spill_add", "", thread, name, body)
