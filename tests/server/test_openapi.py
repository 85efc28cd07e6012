"""Requests made from the service's own description: whatever a client sends, nothing fails inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.store.memory import InMemoryStore
from clew.store.postgres import PostgresStore
from tests.server.live import Blocking, Live, failing, pair

GRAPHS = {"pair": pair, "failing": failing}
ENDLESS = {"GET /threads/{thread_id}/stream", "POST /threads/{thread_id}/stream/events"}
SPOKEN = {"POST /threads/{thread_id}/commands"}  # errors as the protocol of thread streams says them
ABSENT = "00000000-0000-4000-8000-000000000000"


class Fuzzed:
    """A service, what it says of itself, and something of each kind that it has."""

    def __init__(self, live: Live) -> None:
        self.schema: Any = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
        client = Blocking(live.url, "anyone")
        thread = client.threads.create()["thread_id"]
        run = client.runs.create(thread, "pair", input={"log": []})["run_id"]
        client.runs.join(thread, run)
        self.own = {
            "thread_id": thread,
            "run_id": run,
            "assistant_id": client.assistants.create("pair")["assistant_id"],
            "checkpoint_id": client.threads.get_state(thread)["checkpoint_id"],
        }
        client.close()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    """A service of its own: requests that are made up change all that there is."""
    graphs = {name: make() for name, make in GRAPHS.items()}
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver, InMemoryStore(), graphs, auth=None) as live:
        yield Fuzzed(live)


@pytest.fixture(scope="module")
def fuzzed_postgres(server: str) -> Iterator[Fuzzed]:
    """The same on PostgreSQL, its store too."""
    name = f"clew_fuzzed_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    database = make_conninfo(server, dbname=name)
    graphs = {name: make() for name, make in GRAPHS.items()}
    with (
        PostgresSaver.from_conn_string(database) as saver,
        PostgresStore.from_conn_string(database) as store,
        Live(saver, store, graphs, auth=None) as live,
    ):
        yield Fuzzed(live)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


def operations() -> list[str]:
    """Every operation of the description."""
    with SqliteSaver.from_conn_string(":memory:") as saver:
        description = Live.application(saver, InMemoryStore(), {"pair": pair()}, auth=None).openapi()
    return [f"{method.upper()} {path}" for path, each in description["paths"].items() for method in each]


def use(fuzzed: Fuzzed, operation: str, examples: int) -> None:
    """Send made up requests: some about what there is, some about what there is not."""
    method, path = operation.split()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=fuzzed.schema[path][method].as_strategy(), is_real=st.booleans())
    def send(case: Any, is_real: bool) -> None:
        if operation in ENDLESS:
            case.path_parameters = {"thread_id": ABSENT}
        elif is_real:
            case.path_parameters = {name: fuzzed.own.get(name, ABSENT) for name in case.path_parameters or {}}
            if isinstance(case.body, dict) and "assistant_id" in case.body:
                case.body["assistant_id"] = "pair"
        if isinstance(case.body, dict):
            case.body.pop("after_seconds", None)  # nobody waits for years
        answer = case.call(timeout=20)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and operation not in SPOKEN:
            assert isinstance(answer.json()["detail"], str)

    send()


def test_the_description_says_what_comes(fuzzed: Fuzzed) -> None:
    described = {
        f"{method.upper()} {path}": operation["responses"]
        for path, each in fuzzed.schema.raw_schema["paths"].items()
        for method, operation in each.items()
    }

    streams = {name for name, answers in described.items() if "text/event-stream" in str(answers)}
    assert streams >= {"POST /runs/stream", "GET /threads/{thread_id}/runs/{run_id}/stream", *ENDLESS}
    assert {"404", "409", "422"} <= set(described["POST /threads/{thread_id}/runs"])
    error = {"$ref": "#/components/schemas/Error"}
    for answers in described.values():
        kinds = [answers[status]["content"]["application/json"]["schema"] for status in answers if status > "4"]
        assert kinds == [error] * len(kinds) != []


@pytest.mark.parametrize("operation", operations())
def test_nothing_fails_inside(fuzzed: Fuzzed, operation: str) -> None:
    use(fuzzed, operation, 3)


@pytest.mark.long
@pytest.mark.parametrize("operation", operations())
def test_nothing_fails_inside_whatever_is_sent(fuzzed: Fuzzed, operation: str) -> None:
    use(fuzzed, operation, 200)


@pytest.mark.long
@pytest.mark.parametrize("operation", operations())
def test_nothing_fails_inside_on_postgresql(fuzzed_postgres: Fuzzed, operation: str) -> None:
    use(fuzzed_postgres, operation, 100)
