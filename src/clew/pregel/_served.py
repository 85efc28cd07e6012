"""A run for a service: what it shows is pushed, its thread is claimed only while a worker has the run, and how it ended
is given instead of raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from clew._observing import watched
from clew.constants import INTERRUPT
from clew.engine.run import Outcome, run
from clew.engine.state import read
from clew.pregel._prepare import Options, prepare, show_function
from clew.protocols import Hold
from clew.runtime import ServerInfo


@dataclass(frozen=True, slots=True)
class Served:
    """How a run ended: its outcome, and the output with the questions that wait."""

    outcome: Outcome
    output: Any


@dataclass(slots=True)
class _Sink:
    """What a driver puts its output into, where nobody iterates."""

    append: Callable[[Any], None]

    def __bool__(self) -> bool:
        return False


async def run_served(
    graph: Any,
    given: Any,
    config: Any,
    options: Options,
    show: Callable[[Any], None],
    *,
    guard: tuple[str, str, int] | None = None,
    hold: Hold | None = None,
    server_info: ServerInfo | None = None,
) -> Served:
    """Run a graph to its end. `show` gets each chunk of its stream, on the event loop; `guard` names the run, its
    worker and its epoch in the table of runs, and `hold` its lease. An error of a node is in the outcome, others are
    raised."""
    from clew.drivers.aio import AsyncDriver  # late: asyncio is not needed to run synchronously

    prepared = prepare(graph, given, config, options)
    scope = prepared.scope
    scope.server_info = server_info
    scope.hold = hold
    if scope.session is not None:
        scope.session.guard = guard
    driver = AsyncDriver(
        graph.program, scope, prepared.saving, _show_nothing, is_live=prepared.is_live, limit=prepared.limit
    )
    driver.output = cast("Any", _Sink(show))
    driver.show = show_function(prepared, show)
    graph._connect(prepared, driver, options)
    trace: Any = None
    try:
        trace = await graph._astart_trace(prepared)
        outcome = await driver.finish(watched(run(graph.program, prepared.request), scope))
    except BaseException as error:
        if trace is not None:
            await trace.afail(error)
        raise
    finally:
        prepared.close()
    output = read(outcome.state.channels, prepared.request.outputs)
    if trace is not None:
        await (trace.aend(output) if outcome.error is None else trace.afail(outcome.error))
    if outcome.interrupts:
        values = cast("dict[str, Any]", output if isinstance(output, dict) else {})
        output = {**values, INTERRUPT: list(outcome.interrupts)}
    return Served(outcome, output)


def _show_nothing(_mode: str, _data: Any, _step: int) -> None:
    pass
