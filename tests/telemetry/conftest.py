"""Telemetry that these tests can read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clew.telemetry import instrument, uninstrument
from tests.both import drive
from tests.telemetry.kit import Traces

__all__ = ["drive"]


@pytest.fixture
def traces() -> Iterator[Traces]:
    """What is traced and measured during a test."""
    traces = Traces()
    instrument(tracer_provider=traces.tracer_provider, meter_provider=traces.meter_provider)
    yield traces
    uninstrument()
    traces.close()
