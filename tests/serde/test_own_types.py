"""clew's own types are always known."""

from __future__ import annotations

import pytest

from clew import errors
from clew._missing import MISSING
from clew.serde import Codec
from clew.types import Command, Interrupt, Overwrite, Send, StateUpdate, TimeoutPolicy
from tests.serde.exact import again


@pytest.mark.parametrize(
    "value",
    [
        Send("node", {"a": (1,)}),
        Send("node", None, timeout=TimeoutPolicy(run_timeout=1.0)),
        Command(update={"a": 1}, goto=[Send("n", 1), "m"], resume={"id": True}, graph=Command.PARENT),
        Interrupt({"question": "?"}, "id", response_schema={"type": "string"}),
        Overwrite([1]),
        StateUpdate({"a": 1}, "node"),
    ],
    ids=ascii,
)
def test_own_type_comes_back(value: object) -> None:
    restored = again([value])[0]

    assert type(restored) is type(value)
    assert restored == value


def test_missing_is_the_same_object_again() -> None:
    assert again(MISSING) is MISSING


def test_own_types_have_short_names() -> None:
    assert b"\xa9clew:Send" in Codec().encode(Send("n", 1))


def test_own_errors_come_back_as_themselves() -> None:
    error = errors.NodeTimeoutError("n", 2.0, kind="run", run_timeout=1.0)
    hinted = errors.GraphError("what is wrong", hint="what to do")

    timeout, graph_error = again([error, hinted])

    assert (type(timeout), timeout.args, timeout.kind, timeout.timeout) == (type(error), error.args, "run", 1.0)
    assert (type(graph_error), str(graph_error), graph_error.hint) == (errors.GraphError, "what is wrong", "what to do")
    assert graph_error.__notes__ == ["hint: what to do"]


def test_interrupting_exception_keeps_its_questions() -> None:
    restored = again(errors.GraphInterrupt([Interrupt("q", "id")]))

    assert type(restored) is errors.GraphInterrupt
    assert restored.interrupts == (Interrupt("q", "id"),)
