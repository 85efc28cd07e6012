"""Every program does on clew what it does on LangGraph, or differs as the program itself says it must."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from clew.checkpoint.postgres import PostgresSaver
from tests.differential import (  # noqa: F401 - importing adds the programs
    programs_basics,
    programs_errors,
    programs_functional,
    programs_interrupts,
    programs_more,
    programs_policies,
    programs_routing,
    programs_schemas,
    programs_state_api,
    programs_streaming,
    programs_subgraphs,
)
from tests.differential.library import Library, library
from tests.differential.observe import Observer, differences
from tests.differential.program import PROGRAMS, Program

_tenants = itertools.count(1)


def observed(program: Program, name: str) -> Any:
    return Observer().plain(program.body(library(name)))


def on_postgres(saver: PostgresSaver) -> Library:
    """clew, whose savers are on a PostgreSQL server: each of them in a tenant of its own."""

    def fresh(**options: Any) -> PostgresSaver:
        assert not options
        return saver.with_tenant(f"program {next(_tenants)}")

    return Library(**{**vars(library("clew")), "InMemorySaver": fresh})


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
@pytest.mark.filterwarnings("default")
def test_program_gives_the_same_on_both(program: Program) -> None:
    peer = observed(program, "langgraph")
    expected = program.clew(peer) if program.clew else peer

    found = list(differences(expected, observed(program, "clew")))

    assert not found, "\n".join(found)
    if program.clew:
        assert expected != peer, "the program says that it differs, and it does not"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
@pytest.mark.filterwarnings("default")
def test_program_is_deterministic_on_the_peer(program: Program) -> None:
    assert observed(program, "langgraph") == observed(program, "langgraph")


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
@pytest.mark.filterwarnings("default")
def test_program_gives_the_same_on_postgres(program: Program, postgres_saver: PostgresSaver) -> None:
    found = Observer().plain(program.body(on_postgres(postgres_saver)))

    assert not list(differences(observed(program, "clew"), found))
