"""Thread ids and checkpoint ids that are refused, and those that only look strange."""

from __future__ import annotations

import operator
import uuid
import warnings
from typing import Annotated, Any, TypedDict

import pytest

from clew.errors import CheckpointNotFoundError, InvalidThreadIdError, NoSaverError
from clew.graph import START, StateGraph
from clew.warnings import MissingThreadIdWarning
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def noting(saver: Any, **options: Any) -> Any:
    builder = StateGraph(Log).add_node("note", lambda state: {"log": [f"n{len(state['log'])}"]})
    return builder.add_edge(START, "note").compile(checkpointer=saver, **options)


@pytest.mark.parametrize(
    ("thread", "match"),
    [
        ("", "is empty"),
        ("x" * 256, "256 characters"),
        ("a\0b", "NUL"),
        ("a\ud800b", "surrogate"),
    ],
)
def test_refused_thread_ids(drive: Drive, saver: Any, thread: str, match: str) -> None:
    graph = noting(saver)

    for call in (
        lambda: drive.invoke(graph, {"log": []}, on(thread)),
        lambda: drive.get_state(graph, on(thread)),
        lambda: drive.update_state(graph, on(thread), {"log": []}),
    ):
        with pytest.raises(InvalidThreadIdError, match=match):
            call()


@pytest.mark.parametrize("thread", [3, 2.5, None, b"x", ("a",)])
def test_thread_ids_of_other_types(drive: Drive, saver: Any, thread: Any) -> None:
    graph = noting(saver)
    config = {"configurable": {"thread_id": thread}}

    if thread is None:
        with pytest.warns(MissingThreadIdWarning):
            drive.invoke(graph, {"log": []}, config)
    elif thread == 3:
        drive.invoke(graph, {"log": []}, config)
        assert drive.get_state(graph, on("3")).values["log"] == ["n0"]
    else:
        with pytest.raises(InvalidThreadIdError, match=type(thread).__name__):
            drive.invoke(graph, {"log": []}, config)


def test_a_uuid_is_its_text(drive: Drive, saver: Any) -> None:
    thread = uuid.uuid4()
    graph = noting(saver)
    drive.invoke(graph, {"log": []}, {"configurable": {"thread_id": thread}})

    assert drive.get_state(graph, on(str(thread))).values["log"] == ["n0"]


def test_strange_ids_are_accepted_and_distinct(drive: Drive, saver: Any) -> None:
    graph = noting(saver)
    threads = ["a/b", "a", "../a", "..", "é", "e\u0301", "A", "a ", " a", "x" * 255, "%", "a|b:c", "'; drop table step"]

    for thread in threads:
        drive.invoke(graph, {"log": [thread]}, on(thread))

    assert [drive.get_state(graph, on(thread)).values["log"] for thread in threads] == [[t, "n1"] for t in threads]


# -- no thread id ----------------------------------------------------------------------------------------------------


def test_without_a_thread_id_nothing_is_remembered_and_a_warning_says_how(drive: Drive, saver: Any) -> None:
    graph = noting(saver)

    with pytest.warns(MissingThreadIdWarning, match="no thread_id was given") as caught:
        assert drive.invoke(graph, {"log": ["in"]}) == {"log": ["in", "n1"]}
    assert '{"configurable": {"thread_id": "..."}}' in str(caught[0].message)
    assert drive.name == "asyncio" or caught[0].filename.endswith("both.py")  # the line that called invoke
    with pytest.warns(MissingThreadIdWarning):
        assert drive.invoke(graph, {"log": ["in"]}) == {"log": ["in", "n1"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive.invoke(graph, {"log": ["in"]}, on())


def test_a_graph_may_require_a_thread_id(drive: Drive, saver: Any) -> None:
    with pytest.raises(InvalidThreadIdError, match="requires a thread id, and none was given") as caught:
        drive.invoke(noting(saver, require_thread_id=True), {"log": []})

    assert "thread_id" in str(caught.value.hint)


def test_looking_at_a_thread_needs_its_id(drive: Drive, saver: Any) -> None:
    for call in (
        lambda: drive.get_state(noting(saver), {}),
        lambda: drive.get_state_history(noting(saver), {}),
        lambda: drive.update_state(noting(saver), {}, {"log": []}),
    ):
        with pytest.raises(InvalidThreadIdError, match="no thread_id was given"):
            call()


def test_looking_at_a_thread_needs_a_checkpointer(drive: Drive) -> None:
    for call in (
        lambda: drive.get_state(noting(None), on()),
        lambda: drive.get_state_history(noting(None), on()),
        lambda: drive.update_state(noting(None), on(), {"log": []}),
    ):
        with pytest.raises(NoSaverError, match="no checkpointer set") as caught:
            call()
        assert "compile it with a checkpointer" in str(caught.value.hint)


# -- checkpoint ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["nonsense", "", "1f1e570d-6713-6e07-8000-8057232c56a7"])
def test_checkpoint_that_does_not_exist(drive: Drive, saver: Any, id: str) -> None:
    graph = noting(saver)
    drive.invoke(graph, {"log": ["in"]}, on())
    before = drive.get_state_history(graph, on())
    config = on(checkpoint_id=id)

    if id == "":  # as none
        assert drive.get_state(graph, config) == before[0]
        return
    for call in (
        lambda: drive.invoke(graph, None, config),
        lambda: drive.invoke(graph, {"log": ["x"]}, config),
        lambda: drive.get_state(graph, config),
        lambda: drive.update_state(graph, config, {"log": ["x"]}),
    ):
        with pytest.raises(CheckpointNotFoundError, match=id) as caught:
            call()
        assert "'t'" in str(caught.value)

    assert drive.get_state_history(graph, on()) == before


def test_checkpoint_of_another_thread(drive: Drive, saver: Any) -> None:
    graph = noting(saver)
    drive.invoke(graph, {"log": ["one"]}, on("one"))
    drive.invoke(graph, {"log": ["two"]}, on("two"))
    foreign = drive.get_state(graph, on("one")).config["configurable"]["checkpoint_id"]
    before = drive.get_state_history(graph, on("two"))

    with pytest.raises(CheckpointNotFoundError, match=foreign):
        drive.invoke(graph, {"log": ["x"]}, on("two", checkpoint_id=foreign))

    assert drive.get_state_history(graph, on("two")) == before
