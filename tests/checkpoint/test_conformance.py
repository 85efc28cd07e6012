"""LangGraph's published conformance kit, every capability, on every saver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver


@pytest.mark.parametrize("backend", ["memory", "sqlite file", "sqlite memory", "postgres"])
def test_savers_pass_the_conformance_kit(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    paths = (str(tmp_path / f"{number}.db") for number in range(1000))

    tenants = (f"conformance-{number}" for number in range(1000))

    @checkpointer_test(name=backend)
    async def saver() -> AsyncGenerator[Any]:
        if backend == "memory":
            yield InMemorySaver()
            return
        if backend == "postgres":
            yield request.getfixturevalue("postgres_saver").with_tenant(next(tenants))
            return
        async with AsyncSqliteSaver.from_conn_string(
            next(paths) if backend == "sqlite file" else ":memory:", synchronous="NORMAL"
        ) as opened:
            yield opened

    report = asyncio.run(validate(saver))

    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert report.passed_all()
    assert {name for name, result in report.results.items() if result.passed} == {one.value for one in ALL_CAPABILITIES}
