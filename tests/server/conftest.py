"""The services that these tests talk to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.server import create_app
from clew.store.memory import InMemoryStore
from tests.both import own_saver
from tests.server.kit import Api, InProcess, Remote, Serve, make_app, owners_only
from tests.server.live import Asyncio, Blocking, Client, Gate, Live

__all__ = ["own_saver"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service in a process of its own."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.server.child", str(tmp_path_factory.mktemp("served") / "threads.db")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.terminate()
        child.wait(10)
        child.stdout.close()


@pytest.fixture(params=["memory", "sqlite", "postgres", "process"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """A service for an owner whom no other test knows."""
    user = f"user.{next(_numbers)}"
    if request.param == "process":
        remote = Remote(request.getfixturevalue("served"), user)
        yield remote
        remote.close()
        return
    with asyncio.Runner() as runner:
        if request.param == "postgres":
            saver: Any = request.getfixturevalue("postgres_saver").with_tenant(f"service-{next(_numbers)}")
            with InProcess(make_app(saver, InMemoryStore()), runner, user) as api:
                yield api
        elif request.param == "memory":
            with InProcess(make_app(SqliteSaver(":memory:"), InMemoryStore()), runner, user) as api:
                yield api
        else:
            path = str(tmp_path / "threads.db")
            with (
                SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver,
                InProcess(make_app(saver, InMemoryStore()), runner, user) as api,
            ):
                yield api


@pytest.fixture(scope="module", params=["owned", "shared"])
def guarded_by(request: pytest.FixtureRequest) -> Iterator[InProcess]:
    """A service whose handlers give each user what they own; as rows of their own, and by the handlers alone."""
    with asyncio.Runner() as runner, SqliteSaver.from_conn_string(":memory:") as saver:
        app = make_app(saver, InMemoryStore(), auth=owners_only(), shared=request.param == "shared")
        with InProcess(app, runner, "nobody") as api:
            yield api


@pytest.fixture
def guarded(guarded_by: InProcess) -> Api:
    """The same for a user whom no other test knows."""
    return guarded_by.of(f"user.{next(_numbers)}")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Gives services with an `Auth`, as ada sees them."""
    with SqliteSaver.from_conn_string(":memory:") as saver, _served(saver) as make:
        yield make


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """The same, where filters meet each database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("serve")
        return
    saver = request.getfixturevalue("postgres_saver").with_tenant(f"auth-{next(_numbers)}")
    with _served(saver) as make:
        yield make


@contextlib.contextmanager
def _served(saver: Any) -> Iterator[Serve]:
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:

        def make(auth: Any, *, user: str = "ada", graphs: Any = None, **settings: Any) -> InProcess:
            own = {"store": InMemoryStore(), "auth": auth, **settings}
            app = make_app(saver, **own) if graphs is None else create_app(graphs, saver, **own)
            return stack.enter_context(InProcess(app, runner, user))

        yield make


@pytest.fixture
def here() -> Iterator[InProcess]:
    """A service in memory, for facts that have nothing to do with where things are kept."""
    with (
        asyncio.Runner() as runner,
        InProcess(make_app(SqliteSaver(":memory:"), InMemoryStore()), runner, "ada") as api,
    ):
        yield api


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """A service behind a port, in SQLite's memory, on a thread of this process."""
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver, InMemoryStore()) as service:
        yield service


@pytest.fixture(scope="session")
def live_postgres(server: str) -> Iterator[Live]:
    """The same on PostgreSQL, with a database of its own: a worker takes all runs of one."""
    name = f"clew_live_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    with (
        PostgresSaver.from_conn_string(make_conninfo(server, dbname=name)) as saver,
        Live(saver, InMemoryStore()) as service,
    ):
        yield service
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, live: Live) -> Iterator[Client]:
    """Each of the field's clients, for an owner whom no other test knows."""
    made: Client = (Blocking if request.param == "blocking" else Asyncio)(live.url, f"user.{next(_numbers)}")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Blocking]:
    """The blocking client of a service on each database."""
    service: Live = request.getfixturevalue("live" if request.param == "sqlite" else "live_postgres")
    made = Blocking(service.url, f"user.{next(_numbers)}")
    yield made
    made.close()


@pytest.fixture
def blocking(live: Live) -> Iterator[Blocking]:
    """The blocking client alone."""
    made = Blocking(live.url, f"user.{next(_numbers)}")
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the test's end, whatever happens."""
    made = Gate()
    yield made
    made.open()
