"""A span for each request of the service, by OpenTelemetry's conventions for HTTP servers."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from time import perf_counter
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

PROBES = ("/ok", "/metrics")  # asked again and again, and by nobody who reads traces


def begin(tracer: Tracer, seconds: Histogram, scope: Mapping[str, Any]) -> RequestSpan | None:
    """The span of a request, made current; None if what is around the application has made one, or it is a probe."""
    if scope["path"].removeprefix(scope.get("root_path", "")) in PROBES:
        return None
    if trace.get_current_span().get_span_context().is_valid:
        return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    facts: dict[str, Any] = {
        "http.request.method": scope["method"],
        "url.path": scope["path"].encode("utf-8", "replace").decode(),
        "url.scheme": scope.get("scheme", "http"),
    }
    if "user-agent" in headers:
        facts["user_agent.original"] = headers["user-agent"]
    around = propagate.extract(headers)
    span = tracer.start_span(scope["method"], around, SpanKind.SERVER, facts)
    return RequestSpan(span, contexts.attach(trace.set_span_in_context(span, around)), seconds, facts)


class RequestSpan:
    """The span of a request, current until `end` is called, in the same task."""

    __slots__ = ("_began", "_facts", "_seconds", "_span", "_token")

    def __init__(self, span: Span, token: Token[Context], seconds: Histogram, facts: Mapping[str, Any]) -> None:
        self._span = span
        self._token = token
        self._seconds = seconds
        self._facts = facts
        self._began = perf_counter()

    def end(self, route: str | None, status: int, error: BaseException | None) -> None:
        """The request was answered with `status`; `error` is what no route foresaw."""
        contexts.detach(self._token)
        method, span = self._facts["http.request.method"], self._span
        measured: dict[str, Any] = {
            "http.request.method": method,
            "url.scheme": self._facts["url.scheme"],
            "http.response.status_code": status,
        }
        if route is not None:
            measured["http.route"] = route
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if error is not None:
            span.record_exception(error)
        if status >= 500:
            measured["error.type"] = type(error).__qualname__ if error is not None else str(status)
            span.set_attribute("error.type", measured["error.type"])
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        self._seconds.record(perf_counter() - self._began, measured)
