"""Random lives of threads, compared with a model after every step; the same ones in every run, more under `long`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from clew.checkpoint.postgres import PostgresSaver
from tests.model.machine import FileThreadMachine, ThreadMachine, server_machine

SMALL = settings(
    max_examples=50, stateful_step_count=15, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LARGE = settings(SMALL, max_examples=600, stateful_step_count=40, derandomize=False, print_blob=True)


@pytest.mark.parametrize("machine", [ThreadMachine, FileThreadMachine])
def test_a_thread_is_what_was_done_to_it(machine: type[ThreadMachine]) -> None:
    run_state_machine_as_test(machine, settings=SMALL)


def test_a_thread_on_a_server_is_what_was_done_to_it(postgres_database: str) -> None:
    with PostgresSaver(postgres_database) as one, PostgresSaver(postgres_database, commit="fast") as other:
        run_state_machine_as_test(server_machine((one, other)), settings=settings(SMALL, max_examples=15))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thread_on_a_server_is_what_was_done_to_it_in_many_lives(postgres_database: str) -> None:
    with PostgresSaver(postgres_database) as one, PostgresSaver(postgres_database, commit="fast") as other:
        run_state_machine_as_test(server_machine((one, other)), settings=settings(LARGE, max_examples=150))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [ThreadMachine, FileThreadMachine])
def test_a_thread_is_what_was_done_to_it_in_many_lives(machine: type[ThreadMachine]) -> None:
    run_state_machine_as_test(machine, settings=LARGE)
