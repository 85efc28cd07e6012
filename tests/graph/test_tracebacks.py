"""A node's exception reaches the caller as it was raised: unwrapped, with a note, and without the engine's frames."""

from __future__ import annotations

import operator
import traceback
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class BrokenError(Exception):
    """The user's own error."""


def broken(state: Any) -> Any:
    raise BrokenError("mine")


def modules_of(error: BaseException) -> list[str]:
    """The modules of clew's frames in the traceback below the caller's own call."""
    frames = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [name for name in frames if name.startswith(("clew.engine", "clew.drivers"))]


def raised(drive: Drive, graph: Any, given: Any, *config: Any) -> BaseException:
    with pytest.raises(BrokenError, match="mine") as caught:
        drive.invoke(graph, given, *config)
    return caught.value


def one(node: Any, saver: Any = None, name: str = "node") -> Any:
    return StateGraph(Log).add_node(name, node).add_edge(START, name).compile(checkpointer=saver)


def test_note_names_node_superstep_and_thread(drive: Drive, saver: Any) -> None:
    error = raised(drive, one(drive.node(broken), saver), {"log": []}, on("t1"))

    assert error.__notes__ == ["in node 'node', superstep 1, thread 't1'"]
    assert error.__cause__ is None


def test_note_without_a_thread(drive: Drive) -> None:
    assert raised(drive, one(broken), {"log": []}).__notes__ == ["in node 'node', superstep 1"]


def test_traceback_has_no_frames_of_the_engine_or_the_drivers(drive: Drive, saver: Any) -> None:
    error = raised(drive, one(drive.node(broken), saver), {"log": []}, on())

    assert modules_of(error) == []
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "broken"


def test_traceback_of_one_of_several_nodes(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("fine", lambda state: {"log": ["x"]}).add_node("broken", broken)
    graph = builder.add_edge(START, "fine").add_edge(START, "broken").compile(checkpointer=saver)

    assert modules_of(raised(drive, graph, {"log": []}, on())) == []


def test_traceback_out_of_a_subgraph(drive: Drive, saver: Any) -> None:
    error = raised(drive, one(one(broken, name="inner"), saver), {"log": []}, on("t1"))

    assert modules_of(error) == []
    assert error.__notes__ == [
        "in node 'inner', superstep 1, thread 't1'",
        "in node 'node', superstep 1, thread 't1'",
    ]


def test_traceback_out_of_a_child_task(drive: Drive, saver: Any) -> None:
    @task
    def child() -> Any:
        return broken(None)

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return child().result()

    error = raised(drive, workflow, "go", on())

    assert modules_of(error) == []
    assert [note.split(",")[0] for note in error.__notes__] == ["in task 'child'", "in node 'workflow'"]


def test_the_same_error_object_is_raised(drive: Drive) -> None:
    mine = BrokenError("mine")

    def node(state: Log) -> Any:
        raise mine

    assert raised(drive, one(node), {"log": []}) is mine


def test_cause_and_context_are_the_user_s_own(drive: Drive) -> None:
    def node(state: Log) -> Any:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise BrokenError("mine") from error

    error = raised(drive, one(node), {"log": []})

    assert isinstance(error.__cause__, KeyError)


def test_error_out_of_a_stream(drive: Drive, saver: Any) -> None:
    with pytest.raises(BrokenError, match="mine") as caught:
        list(drive.stream(one(drive.node(broken), saver), {"log": []}, on("t1")))

    assert modules_of(caught.value) == []
    assert caught.value.__notes__ == ["in node 'node', superstep 1, thread 't1'"]


def test_state_shows_the_error_of_a_failed_task(drive: Drive, saver: Any) -> None:
    graph = one(broken, saver)
    raised(drive, graph, {"log": []}, on())

    assert drive.get_state(graph, on()).tasks[0].error == "BrokenError('mine')"


def test_state_shows_the_message_of_an_error_without_arguments(drive: Drive, saver: Any) -> None:
    def node(state: Log) -> Any:
        pydantic.TypeAdapter(int).validate_python("old")

    graph = one(node, saver)
    with pytest.raises(pydantic.ValidationError):
        drive.invoke(graph, {"log": []}, on())

    assert "unable to parse string as an integer" in drive.get_state(graph, on()).tasks[0].error
