"""What the background duties of an application do."""

from __future__ import annotations

from dataclasses import dataclass, field

from clew.server.webhooks import WebhookSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DutySettings:
    """What is done in the background, by one replica at a time.

    - `webhooks`: where webhooks may go, and how they are delivered.
    - `lease`: for how many seconds a replica that is lost still holds a duty.
    """

    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    lease: float = 10.0

    def __post_init__(self) -> None:
        if self.lease <= 0:
            raise ValueError(f"lease is {self.lease}, not a number of seconds above 0")
