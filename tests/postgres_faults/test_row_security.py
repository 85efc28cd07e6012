"""Row-level security: a connection sees the rows of the tenant that its transaction has named, and no others."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import InvalidTenantError, StorageError
from clew.storage.postgres import schema
from clew.storage.postgres.wire import Call, Wire
from tests.postgres_faults.graphs import chain, on, values
from tests.postgres_faults.scenarios import OPERATIONS, Blocking, Operation, traces

TABLES = schema.TABLES
_numbers = itertools.count()


@pytest.fixture(scope="module")
def secured(server: str) -> Iterator[str]:
    """A database with policies, as a role sees it that owns nothing."""
    name = role = f"clew_secure_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'create database "{name}"')
        admin.execute(f'create role "{role}" login')
    owner = make_conninfo(server, dbname=name)
    with PostgresSaver.from_conn_string(owner, row_security=True) as saver:
        saver.setup()
    with psycopg.connect(owner, autocommit=True) as admin:
        admin.execute(f'grant select, insert, update, delete on all tables in schema public to "{role}"')
    yield make_conninfo(owner, user=role)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'drop database "{name}" with (force)')
        admin.execute(f'drop role "{role}"')


@pytest.fixture
def saver(secured: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(secured, row_security=True, max_size=1) as opened:
        yield opened


def owner_of(secured: str) -> str:
    return make_conninfo(secured, user="postgres")


def two(saver: PostgresSaver) -> tuple[PostgresSaver, PostgresSaver]:
    number = next(_numbers)
    return saver.with_tenant(f"acme-{number}"), saver.with_tenant(f"zeta-{number}")


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_operation_does_the_same_under_policies(secured: str, saver: PostgresSaver, operation: Operation) -> None:
    plain, bound = two(saver)
    with PostgresSaver.from_conn_string(owner_of(secured), tenant=plain.tenant) as free:
        operation.prepare(Blocking(free))()
    operation.prepare(Blocking(bound))()

    assert bound.verify("t").is_intact
    assert traces(owner_of(secured), bound.tenant) == traces(owner_of(secured), plain.tenant)


def test_one_connection_serves_two_tenants_in_turn(saver: PostgresSaver) -> None:
    acme, zeta = two(saver)
    for turn in range(3):
        chain(acme).invoke({"xs": [turn]}, on("t"))
        chain(zeta).invoke({"xs": [10 + turn]}, on("t"))

    assert values(chain(acme), "t") == [0, 1, 2, 1, 1, 2, 2, 1, 2]
    assert values(chain(zeta), "t") == [10, 1, 2, 11, 1, 2, 12, 1, 2]
    acme.delete_thread("t")
    assert acme.threads() == []
    assert len(zeta.threads()) == 1


def test_no_transaction_is_of_two_tenants(saver: PostgresSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    original, sent = Wire.exchange, list[set[str]]()

    def exchange(wire: Wire, calls: Sequence[Call], on_sent: Any = None) -> Any:
        named = {call.params[-1] for call in calls if "clew.tenant" in call.sql}
        touched = {call.params[0] for call in calls if "clew_" in call.sql and call.params}
        sent.append(named | touched)
        assert not touched or named == touched, "a transaction names the tenant whose rows it is about"
        return original(wire, calls, on_sent)

    bound = [one for _ in range(4) for one in two(saver)]
    for one in bound:
        chain(one).invoke({"xs": [0]}, on("t"))

    async def together() -> None:
        await asyncio.gather(*(chain(one).ainvoke({"xs": [0]}, on(f"t{n}")) for one in bound for n in range(3)))

    monkeypatch.setattr(Wire, "exchange", exchange)
    asyncio.run(together())
    monkeypatch.undo()

    assert max(map(len, sent)) == 1
    assert [len(one.threads()) for one in bound] == [4] * 8


@pytest.fixture
def raw(secured: str, saver: PostgresSaver) -> Iterator[tuple[psycopg.Connection[Any], str, str]]:
    """A connection of the role, beside rows of two tenants in every table of the log."""
    acme, zeta = two(saver)
    for one in (acme, zeta):
        caller = Blocking(one)
        for operation in OPERATIONS:
            if operation.name in ("append_with_large_value", "claim_with_writes", "fork"):
                operation.prepare(caller)()
    with psycopg.connect(secured, autocommit=True) as connection:
        yield connection, acme.tenant, zeta.tenant


@pytest.mark.parametrize("table", TABLES[:5])
def test_who_names_no_tenant_sees_nothing(raw: tuple[psycopg.Connection[Any], str, str], table: str) -> None:
    connection, acme, _ = raw
    for _ in range(2):
        assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
        assert connection.execute(f"delete from {table}").rowcount == 0
        with connection.transaction():  # what it leaves behind is empty, and not gone
            connection.execute("select set_config('clew.tenant', %s, true)", [acme])
            assert connection.execute(f"select count(*) > 0 from {table}").fetchone() == (True,)


@pytest.mark.parametrize("table", TABLES[:5])
def test_tenant_cannot_touch_the_rows_of_another(
    secured: str, raw: tuple[psycopg.Connection[Any], str, str], table: str
) -> None:
    connection, acme, zeta = raw
    count = f"select count(*) from {table} where tenant = %s"
    with psycopg.connect(owner_of(secured)) as owner:
        before = owner.execute(count, [zeta]).fetchone()
        row = owner.execute(f"select * from {table} where tenant = %s limit 1", [zeta]).fetchone()
    assert row is not None
    marks = ", ".join(["%s"] * len(row))
    with connection.transaction():
        connection.execute("select set_config('clew.tenant', %s, true)", [acme])
        assert connection.execute(count, [zeta]).fetchone() == (0,)
        assert connection.execute(f"update {table} set tenant = tenant where tenant = %s", [zeta]).rowcount == 0
        assert connection.execute(f"delete from {table} where tenant = %s", [zeta]).rowcount == 0
        for statement, params in (
            (f"insert into {table} values ({marks})", list(row)),
            (f"update {table} set tenant = %s", [zeta]),
        ):
            refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
            with refused, connection.transaction():
                connection.execute(statement, params)
    with psycopg.connect(owner_of(secured)) as owner:
        assert owner.execute(count, [zeta]).fetchone() == before


def test_call_without_a_tenant_is_refused_with_the_remedy(saver: PostgresSaver) -> None:
    for call in (
        lambda: chain(saver).invoke({"xs": [0]}, on("t")),
        saver.threads,
        lambda: asyncio.run(chain(saver).ainvoke({"xs": [0]}, on("t"))),
    ):
        with pytest.raises(InvalidTenantError, match="names no tenant") as caught:
            call()
        assert "with_tenant" in str(caught.value.hint)


def test_policies_that_are_missing_are_made_on_first_use(database: str) -> None:
    with PostgresSaver.from_conn_string(database) as plain:
        plain.setup()
    with PostgresSaver.from_conn_string(database, row_security=True, tenant="acme") as saver:
        chain(saver).invoke({"xs": [0]}, on("t"))
    with psycopg.connect(database) as connection:
        found = connection.execute("select relname from pg_class where relforcerowsecurity order by 1").fetchall()
    assert {name for (name,) in found} == set(TABLES)


def test_role_that_may_not_make_policies_is_told_so(database: str) -> None:
    role = f"clew_poor_{os.getpid()}"
    with PostgresSaver.from_conn_string(database) as plain, psycopg.connect(database, autocommit=True) as admin:
        plain.setup()
        admin.execute(f"create role {role} login")
        try:
            admin.execute(f"grant all on all tables in schema public to {role}")
            with (
                PostgresSaver.from_conn_string(
                    make_conninfo(database, user=role), row_security=True, tenant="acme"
                ) as saver,
                pytest.raises(StorageError, match="must be owner") as caught,
            ):
                chain(saver).invoke({"xs": [0]}, on("t"))
            assert "grant the role rights" in str(caught.value.hint)
        finally:
            admin.execute(f"drop owned by {role}")
            admin.execute(f"drop role {role}")
