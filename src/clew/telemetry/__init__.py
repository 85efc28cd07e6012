"""OpenTelemetry traces and metrics of runs, and of the service's requests.

`instrument()` switches them on for the process; `pip install 'clew[otel]'` installs what it needs. A run is a span,
with its supersteps and the attempts at its nodes inside, and what a node's own libraries trace inside of those. Names
follow OpenTelemetry's conventions for agents where there are some. Inputs, outputs, states and questions are never
recorded; errors are, with their messages.

Without `instrument()`, nothing of OpenTelemetry is imported or called.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from clew import _observing
from clew.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from clew.telemetry._http import RequestSpan
    from clew.telemetry._runs import Telemetry

__all__ = ("instrument", "uninstrument")

_active: Telemetry | None = None


def instrument(*, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Trace and measure the runs that begin from now on, in this process; called again, with other providers.

    Without providers the process's global ones are used. Raises `MissingExtraError` where OpenTelemetry is not
    installed.
    """
    global _active
    try:
        from clew.telemetry._runs import Telemetry  # late: an optional dependency
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise MissingExtraError("telemetry", "otel") from error
    _active = Telemetry(tracer_provider, meter_provider)
    _observing.follow = _active.follow


def uninstrument() -> None:
    """Trace no run that begins from now on."""
    global _active
    _active = _observing.follow = None


# What the service calls; without `instrument()` all of it does nothing.


def carried() -> dict[str, str]:
    """The current trace as headers (`traceparent`, ...), to be kept with work that another process may do."""
    return {} if _active is None else _active.carried()


def joined(carried: Mapping[str, str] | None) -> AbstractContextManager[Any]:
    """What runs inside belongs to the trace of `carried`, or to none if that is empty."""
    return nullcontext() if _active is None else _active.joined(carried or {})


def request_began(scope: Mapping[str, Any]) -> RequestSpan | None:
    """A span for an HTTP request, given as its ASGI scope, in the trace that its headers name.

    None without telemetry, for `/ok` and `/metrics`, and where a middleware of the application's own has made one.
    """
    return None if _active is None else _active.request_began(scope)
