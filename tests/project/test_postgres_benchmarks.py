"""The benchmarks on PostgreSQL run from end to end, made small, and give a figure for every row."""

from __future__ import annotations

import pytest

from benchmarks import postgres
from benchmarks.library import LIBRARIES, Library
from benchmarks.run import workload
from benchmarks.work import chat, pgchat, pgfan, pglong, pgstore


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv(postgres.NEAR, server)
    monkeypatch.delenv(postgres.FAR, raising=False)
    for module, name, value in (
        (pgchat, "THREADS", 4),
        (pgchat, "TURNS", 2),
        (pgchat, "CONNECTIONS", 2),
        (chat, "TURNS", 4),
        (pglong, "EDGE", 2),
        (pgfan, "TASKS", 5),
        (pgstore, "ITEMS", 20),
        (pgstore, "VECTORS", 20),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("prefix", LIBRARIES)
@pytest.mark.parametrize("name", ["pgchat", "pglong", "pgfan", "pgstore"])
def test_benchmark_runs_and_fills_every_row(name: str, prefix: str) -> None:
    with postgres.server():
        figures = workload(name).measure(Library(prefix))

    assert set(figures) == {row.key for row in workload(name).ROWS}
    assert min(figures.values()) > 0
