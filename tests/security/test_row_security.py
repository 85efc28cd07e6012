"""Policies of the server itself: with them, a connection that forgot whose turn it is finds nothing.

Tried as a role that does not own the tables, over one pooled connection that has served another tenant before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import InvalidTenantError, StorageError
from tests.storage.kit import Run, history, load, write

TABLES = ("clew_head", "clew_step", "clew_fork", "clew_pending", "clew_spill")


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role that owns nothing, and may read and write the tables of the database, which have policies."""
    name = f"clew_guest_{os.getpid()}"
    with PostgresSaver.from_conn_string(database, row_security=True) as owner:
        owner.setup()
    with psycopg.connect(database, autocommit=True) as connection:
        guest = sql.Identifier(name)
        connection.execute(sql.SQL("create role {} login").format(guest))
        connection.execute(
            sql.SQL("grant select, insert, update, delete on all tables in schema public to {}").format(guest)
        )
        yield name
        connection.execute(sql.SQL("drop owned by {}").format(guest))
        connection.execute(sql.SQL("drop role {}").format(guest))


def visible(connection: psycopg.Connection[Any]) -> dict[str, str | None]:
    """Whose rows a connection sees, by table."""
    query = sql.SQL("select string_agg(distinct tenant, ' ') from {}")
    rows = {table: connection.execute(query.format(sql.Identifier(table))).fetchone() for table in TABLES}
    return {table: None if row is None else row[0] for table, row in rows.items()}


def talk(saver: Any, tenant: str) -> None:
    """A thread with a row in every table."""
    bound = saver.with_tenant(tenant)
    for turn in range(2):
        run = Run(bound, "t")
        run.state = {"of": tenant, "turn": turn, "large": f"{tenant} " * 20_000}
        first = run.commit(claim=True)
        run.commit()
        run.save(write(tenant))
    fork = Run(bound, "t", at=first)
    fork.commit([], claim=True)


def test_a_pooled_connection_does_not_keep_the_tenant_before(database: str, role: str) -> None:
    with ConnectionPool(make_conninfo(database, user=role), min_size=1, max_size=1) as pool:
        saver = PostgresSaver(pool, row_security=True)
        for tenant in ("acme", "other", "acme"):
            talk(saver, tenant)
        for tenant in ("acme", "other"):
            bound = saver.with_tenant(tenant)
            assert {saved.values["of"] for saved in history(bound, "t")} == {tenant}
            assert [summary.thread_id for summary in bound.threads()] == ["t"]
            assert bound.verify().problems == []
        with pytest.raises(InvalidTenantError, match="the call names no tenant"):
            load(saver, "t")

        with pool.connection() as connection:  # the very connection that has served them
            assert visible(connection) == dict.fromkeys(TABLES)
            connection.execute("select set_config('clew.tenant', 'acme', true)")
            assert visible(connection) == dict.fromkeys(TABLES, "acme")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("update clew_head set tenant = 'other'")
        saver.with_tenant("acme").delete_thread("t")
        assert load(saver.with_tenant("acme"), "t") is None
        assert load(saver.with_tenant("other"), "t") is not None
        saver.close()


def test_a_saver_that_names_no_tenant_to_the_server_finds_nothing(database: str, role: str) -> None:
    with PostgresSaver.from_conn_string(database, row_security=True) as owner:
        talk(owner, "acme")
    with psycopg.connect(database, autocommit=True) as connection:
        rows = connection.execute(
            "select relname, relforcerowsecurity from pg_class where relname = any(%s)", [list(TABLES)]
        ).fetchall()
    assert dict(rows) == dict.fromkeys(TABLES, True), "owners obey the policies, too"

    with PostgresSaver.from_conn_string(make_conninfo(database, user=role), row_security=False) as forgetful:
        bound = forgetful.with_tenant("acme")
        try:
            assert load(bound, "t") is None
        except StorageError:
            return  # it may find out and say so, too
        with pytest.raises(StorageError):
            Run(bound, "t").commit([], claim=True)
