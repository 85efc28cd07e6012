"""What a service counts and times, for `GET /metrics`.

Each application has a registry of its own, so that several can live in one process. Labels hold routes as they are
declared, statuses and names of duties: never an owner, a thread or a run, so that there are few series and none tells
of anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_RUN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

Outcome = Literal["done", "failed", "given up"]


class Metrics:
    """The metrics of one application in this process. Every method may be called from any thread; none waits."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._requests = Counter(
            "clew_http_requests", "Answered HTTP requests.", ("method", "route", "status"), registry=own
        )
        self._request_seconds = Histogram(
            "clew_http_request_duration_seconds",
            "Time from a request to the end of its answer; a stream's is as long as the stream.",
            ("method", "route"),
            buckets=_REQUEST_SECONDS,
            registry=own,
        )
        self._runs_started = Counter("clew_runs_started", "Attempts at runs begun by this process.", registry=own)
        self._runs_ended = Counter("clew_runs_ended", "Runs ended by this process.", ("status",), registry=own)
        self._runs_active = Gauge("clew_runs_active", "Runs that this process executes now.", registry=own)
        self._run_slots = Gauge("clew_run_slots", "Runs that this process executes at once at most.", registry=own)
        self._run_wait = Histogram(
            "clew_run_wait_seconds",
            "Time from when a run could start to when it was claimed.",
            buckets=_RUN_SECONDS,
            registry=own,
        )
        self._run_seconds = Histogram(
            "clew_run_duration_seconds",
            "Time from a run's claim to its end.",
            ("status",),
            buckets=_RUN_SECONDS,
            registry=own,
        )
        self._queue = Gauge(
            "clew_queue_runs", "Runs in the database, of all processes: those that wait, and those that run.",
            ("status",), registry=own,
        )  # fmt: skip
        self._database_up = Gauge("clew_database_up", "Whether the database answers: 1 or 0.", registry=own)
        self._database_seconds = Gauge(
            "clew_database_duration_seconds", "Time that the database took to count runs.", registry=own
        )
        self._leases_lost = Counter("clew_leases_lost", "Runs that this process lost to another.", registry=own)
        self._runs_retried = Counter(
            "clew_runs_retried", "Runs that wait again because their worker was lost.", registry=own
        )
        self._runs_dead = Counter("clew_runs_dead", "Runs given up after losing too many workers.", registry=own)
        self._events = Counter("clew_events_stored", "Stored events of runs.", registry=own)
        self._streams = Gauge("clew_streams_open", "Streams that clients are reading from this process.", registry=own)
        self._webhooks = Counter("clew_webhooks", "Attempts at delivering webhooks.", ("outcome",), registry=own)
        self._crons = Counter("clew_crons_fired", "Runs made by crons.", ("outcome",), registry=own)
        self._duties = Counter(
            "clew_duties", "Background duties done by this process.", ("duty", "outcome"), registry=own
        )
        self._duty_seconds = Histogram(
            "clew_duty_duration_seconds", "Time that a background duty took.", ("duty",), registry=own
        )

    # -- requests --------------------------------------------------------------------------------------------------

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the template, as "/threads/{thread_id}"."""
        if method not in METHODS:
            method = "other"
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def stream_opened(self) -> None:
        """A client began to read a stream of events."""
        self._streams.inc()

    def stream_closed(self) -> None:
        """A client read a stream to its end, or went away."""
        self._streams.dec()

    # -- runs ------------------------------------------------------------------------------------------------------

    def slots(self, count: int) -> None:
        """How many runs this process executes at once at most."""
        self._run_slots.set(count)

    def run_started(self, wait_seconds: float | None) -> None:
        """A run was claimed, `wait_seconds` after it could have started; `run_ended` or `run_left` follows."""
        self._runs_started.inc()
        self._runs_active.inc()
        if wait_seconds is not None:
            self._run_wait.observe(max(0.0, wait_seconds))

    def run_ended(self, status: str, seconds: float) -> None:
        """This process ended a run `seconds` after it had claimed it; `status` is the one that the run's row has."""
        self._runs_active.dec()
        self._runs_ended.labels(status).inc()
        self._run_seconds.labels(status).observe(max(0.0, seconds))

    def run_left(self) -> None:
        """This process stopped executing a run that has not ended: it was handed back, or lost (`lease_lost`)."""
        self._runs_active.dec()

    def lease_lost(self) -> None:
        """This process found that a run it executed is another's."""
        self._leases_lost.inc()

    def runs_retried(self, count: int = 1) -> None:
        """Runs wait again because their worker was lost."""
        self._runs_retried.inc(count)

    def runs_dead(self, count: int = 1) -> None:
        """Runs were given up: they have lost too many workers."""
        self._runs_dead.inc(count)

    def events_stored(self, count: int) -> None:
        """Events of runs were committed."""
        self._events.inc(count)

    def queue(self, counts: Mapping[str, int] | None, seconds: float) -> None:
        """What the database said of runs by status after `seconds`; None: it said nothing."""
        self._database_up.set(0 if counts is None else 1)
        self._database_seconds.set(seconds)
        for status in ("pending", "running"):
            self._queue.labels(status).set(math.nan if counts is None else counts.get(status, 0))

    # -- duties ----------------------------------------------------------------------------------------------------

    def webhook(self, outcome: Outcome) -> None:
        """A delivery was tried: it arrived, it will be tried again ("failed"), or it will not ("given up")."""
        self._webhooks.labels(outcome).inc()

    def cron(self, outcome: Outcome) -> None:
        """A cron was due: it made its run, or could not."""
        self._crons.labels(outcome).inc()

    def duty(self, name: str, seconds: float, *, is_failed: bool = False) -> None:
        """This process had its turn at a background duty."""
        self._duties.labels(name, "failed" if is_failed else "done").inc()
        self._duty_seconds.labels(name).observe(max(0.0, seconds))

    # -- what `GET /metrics` gives ---------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """The families of samples, without when each was first counted, which would double the number of series."""
        for family in self.registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def as_text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self)

    def as_json(self) -> dict[str, Any]:
        """All metrics by name: a number, or a list of `{"labels", "value"}`; those of histograms are sum and count.

        `queue` and `workers` are the platform's words for some of them.
        """
        found: dict[str, Any] = {"queue": self._platform_queue(), "workers": self._platform_workers()}
        for family in self.collect():
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    continue
                value = _whole(sample.value)
                if sample.labels:
                    found.setdefault(sample.name, []).append({"labels": dict(sample.labels), "value": value})
                else:
                    found[sample.name] = value
        return found

    def _platform_queue(self) -> dict[str, Any]:
        counts = {labels["status"]: value for labels, value in _values(self._queue)}
        return {"num_pending": counts.get("pending"), "num_running": counts.get("running")}

    def _platform_workers(self) -> dict[str, Any]:
        most, active = (next(value for _, value in _values(gauge)) for gauge in (self._run_slots, self._runs_active))
        return {"max": most, "active": active, "available": most - active}


def _values(gauge: Gauge) -> Iterator[tuple[Mapping[str, str], float]]:
    for family in gauge.collect():
        for sample in family.samples:
            yield sample.labels, _whole(sample.value)


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value
