"""What the tests of retention look at: rows as they are stored, and threads of any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clew.ids import id_text
from clew.storage import upkeep
from clew.storage.log import StepRow
from clew.storage.query import Query, Row, Steps
from tests.storage.kit import Run

FIRST = (-1, 0)


@dataclass(frozen=True, slots=True)
class Stored:
    """One checkpoint as it is stored."""

    thread: str
    ns: str
    id: str
    created_at: int
    size: int
    spills: frozenset[bytes]


def ask(saver: Any, name: str, *params: Any) -> list[Row]:
    """The rows of one named query."""

    def steps() -> Steps[list[Row]]:
        return (yield Query(name, params))

    return saver.run(saver._op("", steps))


def threads(saver: Any) -> list[str]:
    return [thread for (thread,) in ask(saver, "thread_names", saver.tenant)]


def lines(saver: Any, thread: str) -> dict[str, int]:
    """The namespaces of a thread, by name."""
    return {ns: line for line, ns, *_ in ask(saver, "head_list", saver.tenant, thread)}


def stored(saver: Any) -> list[Stored]:
    """Every checkpoint there is."""
    found: list[Stored] = []
    for thread in threads(saver):
        for ns, line in lines(saver, thread).items():
            for row in map(StepRow._make, ask(saver, "step_page", saver.tenant, line, *FIRST, 100_000)):
                spills = frozenset(upkeep.step_spills(saver.place(thread, ns), row))
                found.append(Stored(thread, ns, id_text(row.checkpoint_id), row.created_at, len(row.body), spills))
    return found


def spill_sizes(saver: Any, thread: str) -> dict[bytes, int]:
    return dict(ask(saver, "spill_sizes", saver.tenant, thread))  # type: ignore[arg-type] - rows of two


def pending(saver: Any, thread: str, ns: str = "") -> list[Row]:
    return ask(saver, "pending_list", saver.tenant, lines(saver, thread)[ns])


def fill(saver: Any, thread: str, count: int, ns: str = "", *, session: Any = None, size: int = 0) -> Run:
    """Commit `count` checkpoints, each longer than the one before; gives the run."""
    run = Run(saver, thread, ns, session=session)
    for _ in range(count):
        log = run.state.setdefault("log", [])
        log.append(f"{thread} {len(log)} {'x' * size}")
        run.commit()
    return run


def lengths(saver: Any, thread: str) -> dict[str, int]:
    """How many checkpoints each namespace of a thread has."""
    return {ns: len(ask(saver, "step_rows", saver.tenant, line)) for ns, line in lines(saver, thread).items()}
