"""Spans and measures of runs, taken from what passes between an engine and its driver.

Invariant: a span that was started is ended exactly once, however its run ends; no span is made current on the caller's
side, only inside of the nodes, each of which has a context of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any, TypeVar

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from clew._scope import RunScope
from clew.constants import CONF
from clew.drivers._attempts import questions_of
from clew.engine import effects as fx
from clew.engine.run import Outcome
from clew.engine.task import Task
from clew.errors import GraphBubbleUp, GraphDrained
from clew.telemetry._http import RequestSpan, begin
from clew.version import __version__

T = TypeVar("T")
Engine = Generator[Any, Any, Outcome]
_SAVES = (fx.Load, fx.Claim, fx.Commit, fx.Flush)


class Telemetry:
    """What all runs of a process are traced and measured with."""

    def __init__(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        self.tracer = trace.get_tracer("clew", __version__, tracer_provider)
        meter = metrics.get_meter("clew", __version__, meter_provider)
        self.run_seconds = meter.create_histogram("clew.run.duration", unit="s", description="Time that runs took.")
        self.node_seconds = meter.create_histogram(
            "clew.node.duration", unit="s", description="Time that attempts at nodes took."
        )
        self.request_seconds = meter.create_histogram(
            "http.server.request.duration", unit="s", description="Duration of HTTP server requests."
        )

    def follow(self, engine: Engine, scope: RunScope) -> Engine:
        """The same engine, its run traced from now on."""
        scope.observer = spans = RunSpans(self, scope)
        return spans.follow(engine)

    def carried(self) -> dict[str, str]:
        """The current trace, as headers."""
        headers: dict[str, str] = {}
        propagate.inject(headers)
        return headers

    @contextmanager
    def _joined(self, carried: Mapping[str, str]) -> Generator[None]:
        token = contexts.attach(propagate.extract(carried, Context()))
        try:
            yield
        finally:
            contexts.detach(token)

    def joined(self, carried: Mapping[str, str]) -> AbstractContextManager[None]:
        """Make the trace that headers name the current one."""
        return self._joined(carried)

    def request_began(self, scope: Mapping[str, Any]) -> RequestSpan | None:
        """See `clew.telemetry.request_began`."""
        return begin(self.tracer, self.request_seconds, scope)


class RunSpans:
    """The spans of one run: its own, that of the superstep that is under way, and those of attempts at nodes."""

    __slots__ = (
        "_began",
        "_facts",
        "_inside",
        "_is_saved",
        "_is_sync",
        "_name",
        "_run",
        "_step",
        "_step_inside",
        "_tasks",
        "_with",
    )

    def __init__(self, telemetry: Telemetry, scope: RunScope) -> None:
        self._with = telemetry
        self._name = scope.name
        self._is_saved = scope.saver is not None
        self._is_sync = scope.durability == "sync"
        self._facts = _facts(scope)
        around = contexts.get_current()
        self._run = telemetry.tracer.start_span(
            f"invoke_agent {scope.name}", around, attributes={"gen_ai.operation.name": "invoke_agent", **self._facts}
        )
        self._inside = trace.set_span_in_context(self._run, around)
        self._step: Span | None = None
        self._step_inside: Context = self._inside
        self._tasks: dict[Task, Context] = {}
        self._began = perf_counter()

    # -- what passes between engine and driver -----------------------------------------------------------------------

    def follow(self, engine: Engine) -> Engine:
        """Pass everything on, and note it."""
        reply: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    effect = engine.send(reply) if error is None else engine.throw(error)
                except StopIteration as stop:
                    self._ended(stop.value)
                    return stop.value
                reply = error = None
                save = self._before(effect)
                try:
                    reply = yield effect
                except GeneratorExit:
                    engine.close()
                    raise
                except BaseException as raised:
                    error = raised
                self._after(effect, save, reply, error)
        except BaseException as raised:
            self._broken(raised)
            raise

    def _before(self, effect: fx.Effect) -> Span | None:
        if isinstance(effect, fx.Start):
            task = effect.tasks[0]
            if task.call is None and self._step is None and not all(each.node.hidden for each in effect.tasks):
                self._step = self._span("superstep", self._inside, {"clew.step": task.step})
                self._step_inside = trace.set_span_in_context(self._step, self._inside)
            return None
        if not self._is_saved or not isinstance(effect, _SAVES):
            return None
        if isinstance(effect, fx.Commit) and not (effect.claim or self._is_sync):
            return None  # it is not waited for: the flush is
        inside = self._step_inside if isinstance(effect, fx.Commit) else self._inside
        return self._span(type(effect).__name__.lower(), inside, {})

    def _after(self, effect: fx.Effect, save: Span | None, reply: Any, error: BaseException | None) -> None:
        if save is not None:
            _close(save, error)
        if isinstance(effect, fx.Commit) and self._step is not None:
            if error is None:
                self._step.set_attribute("clew.checkpoint.id", reply.checkpoint_id)
            self._end_step()

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.end()
            self._step, self._step_inside = None, self._inside

    def _ended(self, outcome: Outcome) -> None:
        status = outcome.status
        if isinstance(outcome.error, GraphBubbleUp):
            status = "done"  # a command for the graph around it
        elif outcome.error is not None:
            _mark(self._run, outcome.error)  # a node's span has recorded it
        self._end(status)

    def _broken(self, error: BaseException) -> None:
        if isinstance(error, (GeneratorExit, fx.Left, asyncio.CancelledError)):
            self._end("left")
        elif isinstance(error, GraphDrained):
            self._end("drained")
        else:
            self._run.record_exception(error)
            _mark(self._run, error)
            self._end("failed")

    def _end(self, status: str) -> None:
        self._end_step()
        self._run.set_attribute("clew.status", status)
        self._run.end()
        seconds = perf_counter() - self._began
        self._with.run_seconds.record(seconds, {"gen_ai.agent.name": self._name, "clew.status": status})

    # -- attempts at nodes -------------------------------------------------------------------------------------------

    def start(self, task: Task, call: Callable[..., Any]) -> AttemptSpan:
        """An attempt at a task begins; `call` runs a function in the context that the node will run in."""
        kind, inside = "node", self._step_inside
        if task.call is not None:
            kind, inside = "task", self._tasks.get(task.call.parent, inside)
        more: dict[str, Any] = {
            "clew.node": task.name,
            "clew.step": task.step,
            "clew.attempt": task.attempt,
            "clew.task.id": task.id,
            "clew.checkpoint.id": task.checkpoint_id,
            "clew.checkpoint.ns": task.ns,
        }
        span = self._span(f"{kind} {task.name}", inside, more)
        self._tasks[task] = own = trace.set_span_in_context(span, inside)
        call(contexts.attach, own)  # never detached: the node's context ends with it
        return AttemptSpan(self, task, span)

    def attempt_ended(self, task: Task, status: str, seconds: float) -> None:
        """An attempt at a task has ended, and its span with it."""
        self._tasks.pop(task, None)
        facts = {"gen_ai.agent.name": self._name, "clew.node": task.name, "clew.status": status}
        self._with.node_seconds.record(seconds, facts)

    def _span(self, name: str, inside: Context, more: Mapping[str, Any]) -> Span:
        return self._with.tracer.start_span(name, inside, SpanKind.INTERNAL, {**self._facts, **more})


class AttemptSpan:
    """The span of one attempt at a task."""

    __slots__ = ("_began", "_run", "_span", "_task")

    def __init__(self, run: RunSpans, task: Task, span: Span) -> None:
        self._run = run
        self._task = task
        self._span = span
        self._began = perf_counter()

    def finished(self) -> None:
        """The attempt gave writes."""
        self._end("done")

    def failed(self, error: BaseException) -> None:
        """The attempt raised: an error, questions, or because it was told to stop."""
        questions = questions_of(error)
        if questions is not None:
            for question in questions:
                self._span.add_event("interrupt", {"clew.interrupt.id": question.id})
            self._end("interrupted")
        elif isinstance(error, asyncio.CancelledError):
            self._end("cancelled")
        elif isinstance(error, GraphBubbleUp):
            self._end("done")
        else:
            self._span.record_exception(error)
            _mark(self._span, error)
            self._end("failed")

    def _end(self, status: str) -> None:
        self._span.set_attribute("clew.status", status)
        self._span.end()
        self._run.attempt_ended(self._task, status, perf_counter() - self._began)


def _facts(scope: RunScope) -> dict[str, Any]:
    """What every span of a run says of it."""
    given: Mapping[str, Any] = scope.config.get(CONF) or {}
    facts = {
        "gen_ai.agent.name": scope.name,
        "gen_ai.agent.id": given.get("assistant_id"),
        "gen_ai.conversation.id": scope.thread_id,
        "clew.graph.id": given.get("graph_id"),
        "clew.run.id": scope.run_id or given.get("run_id"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _mark(span: Span, error: BaseException) -> None:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _close(span: Span, error: BaseException | None) -> None:
    if error is not None and not isinstance(error, fx.Left):
        span.record_exception(error)
        _mark(span, error)
    span.end()
