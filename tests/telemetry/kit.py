"""Spans in memory, as a tree that a test can compare."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Traces:
    """Finished spans, and measures."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All spans in the order in which they began."""
        return sorted(self._spans.get_finished_spans(), key=lambda span: (span.start_time, span.context.span_id))

    def named(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def tree(self, *, but: frozenset[str] = frozenset(("load", "claim", "commit", "flush"))) -> list[str]:
        """The names of spans, each indented under the one that it belongs to; siblings by name where they began
        together, those in `but` left out."""
        shown = [span for span in self.spans if span.name not in but]
        ids = {span.context.span_id for span in shown}
        roots = [span for span in shown if span.parent is None or span.parent.span_id not in ids]
        return [line for span in roots for line in self._under(span, shown, "")]

    def _under(self, span: ReadableSpan, shown: list[ReadableSpan], indent: str) -> list[str]:
        inner = [each for each in shown if each.parent is not None and each.parent.span_id == span.context.span_id]
        if all(each.name.startswith("node ") for each in inner):  # side by side, in any order
            inner.sort(key=lambda each: each.name)
        return [f"{indent}{span.name}", *(line for each in inner for line in self._under(each, shown, f"{indent}  "))]

    def measured(self, name: str) -> dict[tuple[Any, ...], int]:
        """How often something was measured, by the values of its attributes in the order of their names."""
        data = self._reader.get_metrics_data()
        metrics = [] if data is None else [
            metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]  # fmt: skip
        return {
            tuple(value for _, value in sorted(point.attributes.items())): point.count
            for metric in metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def close(self) -> None:
        """Let go of what the SDK holds."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
