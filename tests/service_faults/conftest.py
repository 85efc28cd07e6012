"""Houses with replicas, on either database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service_faults.kit import House, Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def house_on(zygote: Zygote, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], House]]:
    """Gives a house on a backend, or at a connection string."""
    houses: list[House] = []

    def make(backend: str) -> House:
        database = {"sqlite": str(tmp_path / "threads.db")}.get(backend) or (
            request.getfixturevalue("database") if backend == "postgres" else backend
        )
        houses.append(House(zygote, tmp_path, database))
        return houses[-1]

    yield make
    for house in houses:
        house.close()


@pytest.fixture
def replicated(house_on: Callable[[str], House]) -> House:
    """A house for several replicas."""
    return house_on("postgres")
