"""What it costs to take a run does not depend on how many have ended on its thread."""

from __future__ import annotations

import re
import sqlite3

import psycopg

from clew.checkpoint.postgres import PostgresSaver
from clew.storage.migrate import migrations, named_queries

ADD = """
insert into clew_run (tenant, run_id, thread, user_id, assistant_id, status, strategy, priority, attempt, epoch,
                      is_ephemeral, run_after, created_at, updated_at, metadata, body)
values ('', ?, 'one', '', '', ?, 'enqueue', 0, 0, 0, 0, 0, ?, 0, '{}', x'00')
"""
CLAIM = ("", "worker", 1_000_000, 8, 2, 1, "[]")


def cost(ended: int, waiting: int) -> int:
    """How many thousands of its instructions SQLite needs to take the oldest run that waits."""
    connection = sqlite3.connect(":memory:")
    for migration in migrations("sqlite"):
        for statement in migration.statements:
            connection.execute(statement)
    statuses = ["success"] * ended + ["pending"] * waiting
    connection.executemany(ADD, [(f"{at:06}", status, at) for at, status in enumerate(statuses)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 1000)
    (claimed,) = connection.execute(named_queries("sqlite")["run_claim"], CLAIM).fetchall()
    connection.close()
    assert claimed[0] == f"{ended:06}"
    return steps


def test_runs_that_have_ended_cost_a_claim_nothing() -> None:
    assert cost(ended=3000, waiting=300) <= cost(ended=0, waiting=300) + 5


def test_runs_that_wait_on_one_thread_cost_a_claim_what_they_cost_on_their_own() -> None:
    assert cost(ended=0, waiting=1000) <= 5 * cost(ended=0, waiting=300)


def test_no_more_are_taken_than_there_is_room_for(database: str) -> None:
    """PostgreSQL knows nothing of a new table's rows, and may plan to look for what can be taken again and again."""
    with PostgresSaver.from_conn_string(database) as saver:
        saver.setup()
    with psycopg.connect(database) as connection:
        many = "generate_series(1, 20000) as at"
        row = "'', at::text, at::text, '', '', %s, 'enqueue', 0, 0, 0, 0, 0, at, 0, '{}', ''"
        add = ADD.partition("values")[0] + f"select {row} from {many}"
        connection.execute(add.replace("'', at::text", "'', %s || at::text", 1).encode(), ["ended ", "success"])
        connection.execute(add.replace("20000", "2000").encode(), ["pending"])
        literal = dict(enumerate(("''", "'worker'", "1000000", "8", "2", "1", "'[]'"), start=1))
        claim = re.sub(r"\$(\d)", lambda found: literal[int(found[1])], named_queries("postgres")["run_claim"])

        assert len(connection.execute(claim.encode()).fetchall()) == 8
