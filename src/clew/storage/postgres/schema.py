"""The tables: made and upgraded by numbered migrations, by one client at a time.

A migration called `NNNN_name.pre.sql` only adds, and an older clew goes on working on a database that has had it; one
called `NNNN_name.post.sql` takes away what only older versions use, and is done when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from clew import _failpoints
from clew.storage.migrate import Migration, check_applied, migrations
from clew.storage.postgres.script import Flush, Script
from clew.storage.postgres.texts import Texts
from clew.storage.postgres.wire import Call

TABLES = (
    "clew_head",
    "clew_step",
    "clew_fork",
    "clew_pending",
    "clew_spill",
    "clew_thread",
    "clew_assistant",
    "clew_assistant_version",
    "clew_run",
    "clew_event",
    "clew_duty",
    "clew_delivery",
    "clew_cron",
)
_LOCK = 0x636C6577  # "clew"
_WAIT = "60s"  # for other clients that set the same schema up
# Also where commits are fast: a server that crashes must not take the tables away from under who uses them.
_DURABLE = "select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off'"
_TABLE = "create table if not exists clew_migration (number integer primary key, name text not null)"
_POLICY = "clew_tenant"


def check(texts: Texts, where: str, *, row_security: bool = False) -> Script[bool]:
    """Whether every table is there, and with `row_security` its policy; raises `SchemaVersionError` if the database has
    become too new."""
    try:
        rows = yield Flush([Call(texts.text("select number, name from clew_migration order by number"))])
    except psycopg.Error as error:
        if error.sqlstate in ("42P01", "3F000"):
            return False
        raise
    known = migrations("postgres")
    check_applied(rows[0], known, where)
    if not {number for number, _ in rows[0]} >= {each.number for each in known if not each.is_post}:
        return False
    if not row_security:
        return True
    names = tuple(texts.text(table) for table in TABLES)
    regclasses = ", ".join(f"to_regclass(${index}::text)" for index, _ in enumerate(names, 1))
    secured = f"select 1 from pg_class where oid in ({regclasses}) and relrowsecurity and relforcerowsecurity"
    return len((yield Flush([Call(secured, names)]))[0]) == len(TABLES)


def set_up(
    texts: Texts,
    where: str,
    *,
    post: bool = False,
    row_security: bool = False,
    inside: bool = False,
    known: Sequence[Migration] | None = None,
) -> Script[None]:
    """Make or upgrade the tables in one transaction, while no other client does. `post` also takes away what only
    older versions use. `inside` a transaction that is open already, nothing is begun or committed."""
    known = migrations("postgres") if known is None else known
    begin = [] if inside else [Call("begin")]
    yield Flush(
        [
            *begin,
            Call(f"select set_config('lock_timeout', '{_WAIT}', true)"),
            Call(_DURABLE),
            Call("select pg_advisory_xact_lock($1::bigint)", (_LOCK,)),
        ]
    )
    if texts.schema is not None:
        found = yield Flush([Call("select 1 from pg_namespace where nspname = $1::text", (texts.schema,))])
        if not found[0]:
            yield Flush([Call(f'create schema "{texts.schema}"')])
    here = yield Flush([Call("select to_regclass($1::text)::text", (texts.text("clew_migration"),))])
    if here[0][0][0] is None:
        yield Flush([Call(texts.text(_TABLE))])
    applied = (yield Flush([Call(texts.text("select number, name from clew_migration order by number"))]))[0]
    check_applied(applied, known, where)
    done = {number for number, _ in applied}
    for migration in known:
        if migration.number not in done and (post or not migration.is_post or not done):
            yield from _apply(texts, migration)
    if row_security:
        yield from _secure(texts)
    if not inside:
        yield Flush([Call("commit")])


def _apply(texts: Texts, migration: Migration) -> Script[None]:
    for statement in migration.statements:
        yield Flush([Call(texts.text(statement))])
        _failpoints.hit("migration.statement")
    record = "insert into clew_migration (number, name) values ($1::integer, $2::text)"
    yield Flush([Call(texts.text(record), (migration.number, migration.name))])


def _secure(texts: Texts) -> Script[None]:
    """Let each role see only the rows of the tenant that its transaction has named; the tables' owner, too.

    A setting that a transaction had set is empty after it, and not gone: an empty one names no tenant.
    """
    for table in TABLES:
        name = texts.text(table)
        there = "select 1 from pg_policy where polrelid = to_regclass($1::text) and polname = $2::name"
        if (yield Flush([Call(there, (name, _POLICY))]))[0]:
            continue  # making it anew would lock the table out
        rule = "tenant = nullif(current_setting('clew.tenant', true), '')"
        yield Flush(
            [
                Call(f"alter table {name} enable row level security"),
                Call(f"alter table {name} force row level security"),
                Call(f"create policy {_POLICY} on {name} using ({rule}) with check ({rule})"),
            ]
        )
