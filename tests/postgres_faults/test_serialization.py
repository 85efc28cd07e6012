"""A serialization failure or a deadlock at any statement: the whole unit is done again, with the same result."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import StorageUnavailableError
from clew.storage.migrate import named_queries
from clew.storage.postgres.wire import Call, Wire
from tests.postgres_faults.scenarios import BY_NAME, OPERATIONS, Blocking, OnLoop, Operation, traces

Tenants = Callable[[], str]


@dataclass
class Injector:
    """Makes the server fail right after it has run a statement, or instead of the commit."""

    statements: list[str] = field(default_factory=list)
    at: int = -1  # the number of the statement
    times: int = 1
    code: str = "40001"

    def broken(self, calls: Sequence[Call]) -> Sequence[Call]:
        before = len(self.statements)
        self.statements += [call.sql for call in calls]
        index = self.at - before
        if not self.times or not 0 <= index < len(calls):
            return calls
        self.times -= 1
        self.statements = self.statements[:before] if self.times else self.statements
        kept = calls[:index] if calls[index].sql == "commit" else calls[: index + 1]
        return [*kept, Call(f"do $$ begin raise exception using errcode = '{self.code}'; end $$")]


@contextlib.contextmanager
def injected(injector: Injector) -> Iterator[Injector]:
    original = Wire.exchange

    def exchange(wire: Wire, calls: Sequence[Call], on_sent: Any = None) -> Any:
        return original(wire, injector.broken(calls), on_sent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "exchange", exchange)
        yield injector


@pytest.fixture(scope="module")
def saver(shared: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(shared, max_size=1) as opened:
        yield opened


def told(caller: Any, operation: Operation, injector: Injector) -> Any:
    act = operation.prepare(caller)
    with injected(injector):
        return act()


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_failure_at_any_statement_repeats_the_whole_unit(
    shared: str, saver: PostgresSaver, tenant: Tenants, operation: Operation, runner: asyncio.Runner
) -> None:
    plain = Injector()
    bound = saver.with_tenant(tenant())
    result = told(Blocking(bound), operation, plain)
    left = traces(shared, bound.tenant)

    assert plain.statements
    for number in range(len(plain.statements)):
        bound = saver.with_tenant(tenant())
        caller = OnLoop(bound, runner) if number % 2 else Blocking(bound)
        injector = Injector(at=number)
        again = told(caller, operation, injector)
        assert injector.times == 0
        assert traces(shared, bound.tenant) == left, plain.statements[number]
        if operation.name in ("load", "listing", "threads"):
            assert again == result
        assert bound.verify("t").is_intact


@pytest.mark.parametrize("code", ["40P01", "26000", "0A000", "57014"])
@pytest.mark.parametrize("name", ["append", "copy", "load"])
def test_what_passes_is_tried_again(shared: str, saver: PostgresSaver, tenant: Tenants, name: str, code: str) -> None:
    plain = saver.with_tenant(tenant())
    told(Blocking(plain), BY_NAME[name], Injector())
    bound = saver.with_tenant(tenant())
    injector = Injector(at=0, code=code)
    told(Blocking(bound), BY_NAME[name], injector)

    assert injector.times == 0
    assert traces(shared, bound.tenant) == traces(shared, plain.tenant)


def test_what_never_passes_ends_in_a_typed_error(shared: str, tenant: Tenants) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant(), retry_for=0.2) as saver:
        for name in ("append", "copy", "load"):
            bound = saver.with_tenant(tenant())
            with pytest.raises(StorageUnavailableError, match="kept refusing") as caught:
                told(Blocking(bound), BY_NAME[name], Injector(at=0, times=10**6))
            assert caught.value.hint == "run it again"
            assert isinstance(caught.value.__cause__, psycopg.errors.SerializationFailure)


def test_every_statement_of_the_log_is_one_of_those_that_were_broken(saver: PostgresSaver, tenant: Tenants) -> None:
    seen: set[str] = set()
    for operation in OPERATIONS:
        injector = Injector()
        told(Blocking(saver.with_tenant(tenant())), operation, injector)
        seen |= set(injector.statements)
    file = (resources.files("clew.storage") / "sql" / "postgres.sql").read_text(
        "utf-8"
    )  # the log's; others have theirs
    log = {name for name in re.findall(r"-- name: (\w+)", file) if not name.startswith(("thread_", "tenant_"))}
    never = {name for name in log if named_queries("postgres")[name] not in seen}

    assert never <= RARER, f"give them an operation in scenarios.py: {never - RARER}"


RARER = {  # run by the same transactions as the others, in rarer cases
    "fork_add", "fork_drop", "fork_drop_all", "head_check", "head_check_locked", "head_drop", "head_place",
    "pending_drop_all", "spill_add", "step_branches", "step_drop", "step_drop_all", "step_id", "step_roots",
}  # fmt: skip
