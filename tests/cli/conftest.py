"""An application of its own for each test, in the working folder, and the command line called in this process."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clew.cli import main

APPLICATION = """
import operator
from typing import Annotated, TypedDict

from clew.graph import START, StateGraph
from clew.types import interrupt


class Talk(TypedDict):
    lines: Annotated[list[str], operator.add]


def greet(state):
    return {"lines": [f"Hello, {state['lines'][-1]}."]}


async def greet_async(state):
    return greet(state)


def fail(state):
    raise ValueError("the kettle is empty")


def ask(state):
    return {"lines": [f"answered {interrupt('tea or coffee?')}"]}


def one_node(node):
    builder = StateGraph(Talk)
    builder.add_node("talk", node)
    builder.add_edge(START, "talk")
    return builder


builder = one_node(greet)
compiled = builder.compile()
broken = one_node(fail)
question = one_node(ask)


def factory():
    return one_node(greet_async)


number = 42
"""


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    out: str
    err: str


Clew = Callable[..., Result]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with graphs, importable from the working folder."""
    name = f"app_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.fixture
def clew(capsys: pytest.CaptureFixture[str]) -> Clew:
    """`clew(*arguments)`: what the command printed, and its exit status."""

    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return call
