"""Every statement keeps to what CockroachDB, YugabyteDB and Citus have, too, and names the tenant whose rows it means.

This reads texts; it says nothing about how those databases run them.
"""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from clew.storage.migrate import migrations, named_queries
from clew.storage.postgres import direct, tables
from clew.storage.postgres.direct import Fence, StepShape, TasksShape, step_text, tasks_text

BOTH = (False, True)
STEPS = [StepShape(*shape) for shape in itertools.product(get_args(Fence), BOTH, BOTH, BOTH, BOTH)]
TASKS = [
    TasksShape(*shape)
    for shape in itertools.product(("same", "claim", "new"), ("root", "known", "made"), BOTH, BOTH, BOTH, BOTH)
]
STATEMENTS: dict[str, str] = {
    **{f"query {name}": sql for name, sql in named_queries("postgres").items()},
    **{f"step {shape}": step_text(shape) for shape in STEPS},
    **{f"tasks {shape}": tasks_text(shape) for shape in TASKS},
    **{f"lookup {name}": sql for name, sql in tables._ADDS.items()},
    "lookup step": direct._STEP_IS_THERE,
    "lookup claim": direct._CLAIM_IS_OURS,
}
MIGRATIONS = {
    f"{each.name} {number}": sql for each in migrations("postgres") for number, sql in enumerate(each.statements)
}

# A worker of the service is found by its id, of whatever tenant its runs are.
QUEUE = {"query run_renew", "query run_release"}
TAKEN = {"query run_claim", "query run_expired"}
QUEUE_KEYS = {"priority, created_at, run_id", "owner, lease_until"}

# What is not used, and why.
LACKING = {
    r"\b(listen|notify|unlisten)\b": "CockroachDB and YugabyteDB lack it; on PostgreSQL it serializes commits",
    r"\bpg_(try_)?advisory": "a no-op or missing in CockroachDB, experimental in YugabyteDB; setup alone takes one",
    r"\bexclude\s+using\b": "CockroachDB and YugabyteDB have no exclusion constraints",
    r"\btrigger\b": "Citus has none on distributed tables, as a rule",
    r"\b(temp|temporary|unlogged)\b": "a pooler or another node does not see them",
    r"\b(declare|fetch|cursor)\b": "a cursor binds a session, and is limited on distributed tables",
    r"\b(ctid|xmin|xmax|tableoid)\b": "CockroachDB has no such columns",
    r"\bpg_(current_xact_id|xact_status|snapshot)\b": "means something on one node only",
    r"\blateral\b": "limited in Citus",
    r"\b(serial|bigserial|sequence|nextval)\b": "a sequence is a hot spot of a distributed database",
    r"\b(skip locked|nowait)\b": "not everywhere; lock_timeout is enough",
    r"\bmerge into\b": "CockroachDB lacks it",
    r"\b(create function|language plpgsql|do \$\$)": "code in the database is not portable",
    r"\bonly\b|\binherits\b": "CockroachDB has no inheritance",
    r"\bset (session|local)\b|\breset\b|\bdiscard\b": "a session's state is another client's behind a pooler",
    r"\bcreate view\b|\binstead of\b": "no write goes through a view",
    r"\bforeign key\b|\breferences\b": "a foreign key costs a distributed lookup per row",
}


@pytest.mark.parametrize("name", [*STATEMENTS, *MIGRATIONS])
def test_statement_keeps_to_the_portable_profile(name: str) -> None:
    text = without_texts({**STATEMENTS, **MIGRATIONS}[name])

    if name in TAKEN:
        text = text.replace("for update skip locked", "")  # several workers look at the same time

    assert [why for pattern, why in LACKING.items() if re.search(pattern, text)] == []


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - QUEUE - {"query now"}))
def test_statement_names_the_tenant_of_every_table_it_touches(name: str) -> None:
    text = without_texts(STATEMENTS[name])
    touched = re.findall(r"\b(?:from|join|update|delete from|into)\s+(clew_\w+)", text)

    assert touched
    for part in parts(text):
        tables_of_part = re.findall(r"\b(?:from|join|update|into)\s+(clew_\w+)", part)
        named = len(re.findall(r"\btenant\s*[=>]\s*(?:\$\d+|\w+\.tenant)", part))
        named += len(re.findall(r"insert into clew_\w+(?: as \w+)?\s*\(\s*tenant\b", part))
        named += len(re.findall(r"\busing \(tenant\b", part))  # the same as the other table's
        assert named >= len(tables_of_part), part


@pytest.mark.parametrize("name", [name for name in STATEMENTS if "insert into" in STATEMENTS[name]])
def test_rows_are_added_under_the_tenant_that_was_bound(name: str) -> None:
    """Citus sends a statement to the node of its tenant: that is a parameter, or the tenant of what is copied."""
    inserted = r"insert into clew_\w+(?: as \w+)?\s*\(\s*tenant\b.*?\)\s*(?:values\s*\(\s*|select\s+)([\w$.:]+)"
    found = re.findall(inserted, without_texts(STATEMENTS[name]), re.DOTALL)

    assert found
    assert set(found) <= {"$1", "$1::text", "tenant"}


def test_tenant_leads_every_key() -> None:
    keys = [
        columns
        for sql in MIGRATIONS.values()
        for columns in re.findall(r"(?:primary key|unique|on clew_\w+)\s*\(([^)]*)\)", sql)
    ]

    assert len(keys) >= 5
    assert {columns for columns in keys if not columns.startswith("tenant")} == QUEUE_KEYS


def without_texts(sql: str) -> str:
    return re.sub(r"'[^']*'", "''", re.sub(r"--.*", "", sql.lower()))


def parts(text: str) -> list[str]:
    """The common table expressions of a statement, or the whole of it."""
    if not text.startswith("with "):
        return [text]
    return re.findall(r"\w+ as \((.*?)\)(?=,\n|\nselect)", text, re.DOTALL)
