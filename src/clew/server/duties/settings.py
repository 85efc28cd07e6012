"""What the background duties of an application do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from clew.retention import Retention, ThreadTtl
from clew.server.webhooks import WebhookSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DutySettings:
    """What is done in the background, by one replica at a time.

    - `retention`: a policy that is applied to every thread, each `retain_every`.
    - `ttl`: how long threads live that do not say it themselves.
    - `keep_events`: how long what a run has shown can be read again after its end, at least; as long as that, a run
      whose thread went with it can be asked for.
    - `keep_runs`: how long runs are listed after their end; None: as long as their thread.
    - `webhooks`: where webhooks may go, and how they are delivered.
    - `lease`: for how many seconds a replica that is lost still holds a duty.
    """

    retention: Retention | None = None
    retain_every: timedelta = timedelta(hours=1)
    ttl: ThreadTtl = field(default_factory=ThreadTtl)
    keep_events: timedelta = timedelta(hours=1)
    keep_runs: timedelta | None = None
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    lease: float = 10.0

    def __post_init__(self) -> None:
        if self.lease <= 0:
            raise ValueError(f"lease is {self.lease}, not a number of seconds above 0")
        if self.retain_every <= timedelta(0) or min(self.keep_events, self.keep_runs or timedelta(0)) < timedelta(0):
            raise ValueError("retain_every, keep_events and keep_runs are durations")
