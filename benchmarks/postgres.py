"""The PostgreSQL server that a benchmark runs against: started for it, as durable as by default, and empty.

It commits as PostgreSQL does by default: fsync, full_page_writes and synchronous_commit are on. Measurements run in
processes of their own and find it through the environment; `CLEW_BENCH_POSTGRES` may also name a server of yours.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.proxy import Proxy
from tests.servers import Server

NEAR, FAR = "CLEW_BENCH_POSTGRES", "CLEW_BENCH_POSTGRES_FAR"
ROUND_TRIP = 0.002  # seconds that the far server's network adds


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database, by its connection strings: as it is, and behind a network that adds `ROUND_TRIP`."""

    near: str
    far: str

    def size(self, prefix: str) -> tuple[int, int]:
        """Bytes on disk of the tables whose names begin so, with their indexes, and bytes of all values in them."""
        with psycopg.connect(self.near, autocommit=True) as connection:
            connection.execute("checkpoint")
            names = [
                str(name)
                for (name,) in connection.execute(
                    "select tablename from pg_tables where schemaname = 'public' and tablename like %s", [f"{prefix}%"]
                )
            ]
            disk = sum(_number(connection, f"select pg_total_relation_size('\"{name}\"')") for name in names)
            values = sum(_values(connection, name) for name in names)
        return disk, values


def _values(connection: psycopg.Connection[Any], table: str) -> int:
    """Bytes of all values in a table, as they are stored (some are compressed)."""
    columns = connection.execute("select column_name from information_schema.columns where table_name = %s", [table])
    total = " + ".join(f'coalesce(pg_column_size("{column}"), 0)' for (column,) in columns)
    return _number(connection, f'select coalesce(sum({total}), 0) from "{table}"')


def _number(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


# A peer asks for an extension that is not in the wheel. All it uses of it is a function that PostgreSQL has itself.
_UUID_CONTROL = "default_version = '1.1'\nrelocatable = true\ntrusted = true\n"
_UUID_SQL = "create function uuid_generate_v4() returns uuid language sql as 'select gen_random_uuid()';\n"


@contextmanager
def server(*, with_uuids: bool = False) -> Iterator[str]:
    """A server and a far way to it, for this process and those it starts, unless there is one already; its version.

    `with_uuids` gives it a stand-in for the extension uuid-ossp (PostgreSQL 18)."""
    if FAR in os.environ:
        yield _version()
        return
    given = os.environ.get(NEAR)
    with ExitStack() as stack:
        conninfo = given or stack.enter_context(_started(with_uuids=with_uuids))
        proxy = stack.enter_context(Proxy.to(conninfo, latency=ROUND_TRIP / 2, watch=False))
        os.environ[NEAR], os.environ[FAR] = conninfo, proxy.conninfo(conninfo)
        try:
            yield _version()
        finally:
            del os.environ[FAR]
            if given is None:
                del os.environ[NEAR]


def url(conninfo: str) -> str:
    """A connection string as a URL, as others want it."""
    parts = conninfo_to_dict(conninfo)
    user = f"{parts['user']}:{parts.get('password', '')}" if parts.get("password") else str(parts["user"])
    return f"postgresql://{user}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def server_pid(conninfo: str) -> int | None:
    """The process that started all others of the server; None if it is on another machine."""
    with psycopg.connect(conninfo) as connection:
        own = _number(connection, "select pg_backend_pid()")
    parent = Path("/proc") / str(own) / "stat"
    try:
        return int(parent.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _version() -> str:
    with psycopg.connect(os.environ[NEAR]) as connection:
        return f"PostgreSQL {connection.info.parameter_status('server_version')}"


@contextmanager
def _started(*, with_uuids: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as home:
        settings = {"shared_buffers": "256MB"}
        if with_uuids:
            folder = Path(home) / "share" / "extension"
            folder.mkdir(parents=True)
            (folder / "uuid-ossp.control").write_text(_UUID_CONTROL)
            (folder / "uuid-ossp--1.1.sql").write_text(_UUID_SQL)
            settings["extension_control_path"] = f"{folder.parent}:$system"
        started = Server(Path(home), **settings)
        started.create()
        started.start()
        try:
            yield started.conninfo()
        finally:
            started.stop("immediate")


@contextmanager
def database() -> Iterator[Database]:
    """A fresh database on the server, dropped afterwards."""
    name = f"bench_{uuid.uuid4().hex}"
    near, far = os.environ[NEAR], os.environ[FAR]
    with psycopg.connect(near, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        connection.execute("checkpoint")
    try:
        yield Database(make_conninfo(near, dbname=name), make_conninfo(far, dbname=name))
    finally:
        with psycopg.connect(near, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())
