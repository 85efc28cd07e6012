"""How long threads live that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """What becomes of a thread that nobody has used for `default_ttl` minutes (None: nothing): it is deleted, or keeps
    its newest state only. Every `sweep_interval_minutes` at most `sweep_limit` threads are looked at."""

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: float | None = None
    sweep_interval_minutes: float = 5
    sweep_limit: int = 1000

    def __post_init__(self) -> None:
        if (self.default_ttl or 1) <= 0 or self.sweep_interval_minutes <= 0 or self.sweep_limit < 1:
            raise ValueError(f"these settings of retention make no sense: {self}")
