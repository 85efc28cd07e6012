"""What an application is told about HTTP: which rooms it has, who may read it from a browser, what stands around it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

from clew.server.openapi import Security

Room = Literal["assistants", "threads", "runs", "store", "meta"]


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins a browser lets read the answers, and what of them. `max_age` is in seconds."""

    allow_origins: tuple[str, ...] = ("*",)
    allow_origin_regex: str | None = None
    allow_methods: tuple[str, ...] = ("*",)
    allow_headers: tuple[str, ...] = ("*",)
    allow_credentials: bool = False
    expose_headers: tuple[str, ...] = ()
    max_age: int = 600


@dataclass(frozen=True)
class HeaderRules:
    """Which headers of a request are meant: names, `*` for any characters in them; what is excluded is never meant.

    Without `includes`, those that start with `x-`, and the `user-agent`.
    """

    includes: tuple[str, ...] | None = None
    excludes: tuple[str, ...] = ()

    def picks(self, name: str) -> bool:
        """Whether the header of that name is meant."""
        return self._included.fullmatch(name) is not None and self._excluded.fullmatch(name) is None

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _any_of(("x-*", "user-agent") if self.includes is None else self.includes)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _any_of((*self.excludes, *(_SECRET if self.includes is None else ())))


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How an application is reached.

    - `cors`: for browsers; None: every origin, unless `app` brings a middleware of its own for that.
    - `configurable_headers`: those that nodes find in `config["configurable"]`.
    - `disabled`: rooms that there are not; without "meta" there is no `/info`, `/metrics`, `/docs` and `/openapi.json`,
      and `/ok` looks at nothing.
    - `mount_prefix`: what every path starts with, as `/api`.
    - `max_body`: how many bytes a request may have; a larger one is refused with 413.
    - `app`: a Starlette or FastAPI application; its routes are looked at first, and its middleware and its lifespan
      are around everything. With `authenticates_app` its routes are for those only who may use the service.
    - `security`: what the documentation says of authentication.
    """

    cors: Cors | None = None
    configurable_headers: HeaderRules = field(default_factory=HeaderRules)
    disabled: frozenset[Room] = frozenset()
    mount_prefix: str = ""
    max_body: int = 64 * 1024 * 1024
    app: Any = None
    authenticates_app: bool = False
    security: Security | None = None

    def __post_init__(self) -> None:
        if self.mount_prefix and not re.fullmatch(r"(/[^/?#\s]+)+", self.mount_prefix):
            raise ValueError(f"mount_prefix {self.mount_prefix!r} is not a path such as '/api'")

    @property
    def browsers(self) -> Cors | None:
        """What browsers are told; None: nothing, by the service."""
        own = any(each.cls is CORSMiddleware for each in getattr(self.app, "user_middleware", ()))
        return None if self.cors is None and own else self.cors or Cors()


def configurable_of(request: HTTPConnection) -> dict[str, str]:
    """What a request's headers put into the `configurable` of the run that it asks for, by names in lower case.

    What the service itself puts there cannot be set by a header.
    """
    rules: HeaderRules = request.app.state.clew.http.configurable_headers
    return {name: value for name, value in request.headers.items() if rules.picks(name) and not _OWN.match(name)}


_SECRET = ("x-api-key", "x-tenant-id", "x-service-key")  # never in a run's configuration unless they are named
_OWN = re.compile(r"__|langgraph_|checkpoint_|(thread|run|assistant|graph|user)_id$")


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    each = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
    return re.compile("|".join(each) or "(?!)", re.IGNORECASE | re.DOTALL)
