"""Values of types that nobody named: refused when run, carried when maintained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from clew.errors import SerializationError
from clew.protocols import HistoryQuery, TaskWrites
from clew.serde import Opaque
from tests.storage.kit import TASK, Run, history, load


@dataclass
class Ticket:
    number: int


class Unknown:
    pass


def stored(saver: Any) -> Run:
    """A thread whose state holds a class that only its graph knows."""
    session = saver.session("t", types=frozenset({Ticket}))
    run = Run(saver, "t", session=session)
    for number in range(3):
        run.state.setdefault("tickets", []).append(Ticket(number))
        run.state["n"] = number
        run.commit()
    return run


def test_a_graph_that_names_the_type_reads_it(saver: Any) -> None:
    stored(saver)
    session = saver.session("t", types=frozenset({Ticket}))

    assert Run(saver, "t", session=session).state["tickets"] == [Ticket(0), Ticket(1), Ticket(2)]


def test_reading_without_the_type_names_channel_type_and_thread(saver: Any) -> None:
    stored(saver)

    with pytest.raises(SerializationError, match=r"channel 'tickets' cannot be read: .*Ticket") as caught:
        load(saver, "t")

    assert "thread 't'" in "".join(caught.value.__notes__)
    assert "clew.serde.register(Ticket)" in str(caught.value.hint)


def test_maintenance_carries_what_it_does_not_know(saver: Any) -> None:
    stored(saver)
    saver.copy_thread("t", "copy")
    saver.prune(["t"], keep_last=2)
    assert saver.verify().problems == []

    opaque = saver.run(saver.session("t").cursor().load(opaque=True))
    assert [type(ticket) for ticket in opaque.values["tickets"]] == [Opaque] * 3
    for thread, count in (("t", 2), ("copy", 3)):
        session = saver.session(thread, types=frozenset({Ticket}))
        listed = saver.run(session.cursor().history(HistoryQuery()))
        assert [saved.values["tickets"][-1] for saved in listed] == [Ticket(2), Ticket(1), Ticket(0)][:count]


def test_an_unknown_type_is_refused_when_written_and_nothing_is_stored(saver: Any) -> None:
    run = Run(saver, "t")
    run.state["n"] = 1
    run.commit()
    run.state["thing"] = {"deep": [1, Unknown()]}

    with pytest.raises(SerializationError, match=r"channel 'thing' cannot be stored: .*Unknown") as caught:
        run.commit()
    assert "register(Unknown)" in str(caught.value.hint)
    with pytest.raises(SerializationError, match="a write to channel 'thing' by 'worker' cannot be stored"):
        run.cursor.save_writes([TaskWrites(TASK, [("thing", Unknown())], name="worker")])
    with pytest.raises(SerializationError, match="the checkpoint's metadata cannot be stored"):
        run.commit(["n"], user=Unknown())

    del run.state["thing"]
    run.state["n"] = 2
    run.commit(["n"])
    assert [saved.values for saved in history(saver, "t")] == [{"n": 2}, {"n": 1}]
