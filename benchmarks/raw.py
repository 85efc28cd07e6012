"""What hand-written SQL needs for the bytes that the chats of `pgchat` store: the rate that clew is measured against.

A turn is one read of the thread and four commits, each one statement: it moves the thread's head unless somebody else
has, adds a step of as many bytes as clew's, and deletes what was pending. There is no graph, no state and nothing to
encode. `singly` runs each statement on its own, as a program on psycopg would; `grouped` runs one statement for all
chats that wait, so that they share the wait for the disk, which is the best that is known here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

BODIES = tuple(os.urandom(size) for size in (275, 415, 625, 520))  # as clew stores a turn's four steps
TURNS_TO_WARM_UP = 1

SCHEMA = """
create table raw_head (tenant text, line bigint, epoch bigint, branch int, seq int, key_seq int, last_id bytea,
    updated_at bigint, thread text, primary key (tenant, line), unique (tenant, thread)) with (fillfactor = 50);
create table raw_step (tenant text, line bigint, branch int, seq int, key_seq int, checkpoint_id bytea, run_id bytea,
    created_at bigint, body bytea, primary key (tenant, line, branch, seq));
alter table raw_step alter column body set storage external;
create unique index raw_step_by_id on raw_step (tenant, line, checkpoint_id);
create table raw_pending (tenant text, line bigint, branch int, seq int, task_id bytea, epoch bigint, body bytea,
    primary key (tenant, line, branch, seq, task_id));
"""
HEADS = """
insert into raw_head select '', n, 1, 0, 0, 1, null, 0, 'chat-' || n from generate_series(0, %s - 1) as n
"""
READ = """
select step.body from raw_head as head join raw_step as step
    on step.tenant = head.tenant and step.line = head.line and step.branch = head.branch
   and step.seq between head.key_seq and head.seq
 where head.tenant = '' and head.line = %(line)s
"""
COMMIT = """
with moved as (
    update raw_head set seq = %(seq)s::int, last_id = %(id)s, updated_at = %(now)s
     where tenant = '' and line = %(line)s and branch = 0 and seq = %(seq)s::int - 1 and epoch = 1 returning key_seq),
added as (
    insert into raw_step (tenant, line, branch, seq, key_seq, checkpoint_id, run_id, created_at, body)
    select '', %(line)s::bigint, 0, %(seq)s::int, key_seq, %(id)s, %(run)s, %(now)s, %(body)s from moved),
spent as (
    delete from raw_pending
     where tenant = '' and line = %(line)s and branch = 0 and seq = %(seq)s::int - 1 and exists (select 1 from moved))
select 1 from moved
"""
READ_GROUP = READ.replace("= %(line)s", "= any(%(lines)s::bigint[])")
COMMIT_GROUP = """
with incoming as (
    select * from unnest(%(lines)s::bigint[], %(ids)s::bytea[], %(bodies)s::bytea[]) as one (line, id, body)),
moved as (
    update raw_head as head set seq = %(seq)s::int, last_id = one.id, updated_at = %(now)s from incoming as one
     where head.tenant = '' and head.line = one.line and head.branch = 0 and head.seq = %(seq)s::int - 1
       and head.epoch = 1
    returning head.line, head.key_seq, one.id, one.body),
added as (
    insert into raw_step (tenant, line, branch, seq, key_seq, checkpoint_id, run_id, created_at, body)
    select '', line, 0, %(seq)s::int, key_seq, id, %(run)s, %(now)s, body from moved),
spent as (
    delete from raw_pending as pending using moved
     where pending.tenant = '' and pending.line = moved.line and pending.branch = 0
       and pending.seq = %(seq)s::int - 1)
select 1 from moved
"""
Connection = psycopg.Connection[tuple[Any, ...]]


def singly(conninfo: str, *, chats: int, turns: int, connections: int) -> float:
    """Turns per second, each statement alone, on `connections` connections with a thread each."""

    def talk(connection: Connection, lines: range, turn: int) -> None:
        for line in lines:
            connection.execute(READ, {"line": line}, binary=True).fetchall()
            for place, body in enumerate(BODIES):
                values = {"line": line, "seq": turn * len(BODIES) + place + 1, "body": body}
                values |= {"id": os.urandom(16), "run": os.urandom(16), "now": time.time_ns() // 1000}
                done = connection.execute(COMMIT, values)
                assert done.fetchall() == [(1,)]

    return rate(conninfo, talk, chats=chats, turns=turns, connections=connections)


def grouped(conninfo: str, *, chats: int, turns: int, connections: int) -> float:
    """Turns per second, the chats of each of `connections` connections together in every statement."""

    def talk(connection: Connection, lines: range, turn: int) -> None:
        wanted = list(lines)
        connection.execute(READ_GROUP, {"lines": wanted}, binary=True).fetchall()
        for place, body in enumerate(BODIES):
            values = {"lines": wanted, "seq": turn * len(BODIES) + place + 1, "bodies": [body] * len(wanted)}
            values |= {"ids": [os.urandom(16) for _ in wanted], "run": os.urandom(16), "now": time.time_ns() // 1000}
            done = connection.execute(COMMIT_GROUP, values, binary=True)
            assert done.rowcount == len(wanted)

    return rate(conninfo, talk, chats=chats, turns=turns, connections=connections)


def rate(
    conninfo: str, talk: Callable[[Connection, range, int], None], *, chats: int, turns: int, connections: int
) -> float:
    """Run `talk` for every turn on every connection, which has its part of the chats; turns per second of all."""
    opened = [psycopg.connect(conninfo, autocommit=True, prepare_threshold=0) for _ in range(connections)]
    share = chats // connections
    shares = [range(number * share, (number + 1) * share) for number in range(connections)]
    opened[0].execute("drop table if exists raw_head, raw_step, raw_pending")
    opened[0].execute(SCHEMA, prepare=False)
    opened[0].execute(HEADS, [chats])

    def run(number: int, first: int, count: int) -> None:
        for turn in range(first, first + count):
            talk(opened[number], shares[number], turn)

    with ThreadPoolExecutor(connections) as executor:

        def all_at_once(first: int, count: int) -> None:
            for future in [executor.submit(run, number, first, count) for number in range(connections)]:
                future.result()

        all_at_once(0, TURNS_TO_WARM_UP)
        start = time.perf_counter()
        all_at_once(TURNS_TO_WARM_UP, turns)
        elapsed = time.perf_counter() - start
    for connection in opened:
        connection.close()
    return chats * turns / elapsed
