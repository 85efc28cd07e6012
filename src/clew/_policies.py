"""How often, how long and whether at all a node runs: retry, timeout and cache policies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

_PROGRAMMING_ERRORS = (
    ValueError,
    TypeError,
    ArithmeticError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    RuntimeError,
    ReferenceError,
    StopIteration,
    StopAsyncIteration,
    OSError,
)


def default_retry_on(error: Exception) -> bool:
    """Whether an error looks passing: lost connections, HTTP 5xx, and whatever is not a common programming error."""
    if isinstance(error, ConnectionError):
        return True
    for package, class_name in (("httpx", "HTTPStatusError"), ("requests", "HTTPError")):
        module = sys.modules.get(package)
        if module is not None and isinstance(error, getattr(module, class_name)):
            response = getattr(error, "response", None)
            return response is None or 500 <= response.status_code < 600
    return not isinstance(error, _PROGRAMMING_ERRORS)


class RetryPolicy(NamedTuple):
    """When to run a failed node again; intervals in seconds, `max_attempts` counts the first one."""

    initial_interval: float = 0.5
    backoff_factor: float = 2.0
    max_interval: float = 128.0
    max_attempts: int = 3
    jitter: bool = True
    retry_on: type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool] = default_retry_on

    def matches(self, error: BaseException) -> bool:
        """Whether this policy retries `error`."""
        if not isinstance(error, Exception):
            return False
        if isinstance(self.retry_on, Sequence):
            return isinstance(error, tuple(cast("Sequence[type[Exception]]", self.retry_on)))  # a class is not one
        if isinstance(self.retry_on, type):
            return isinstance(error, self.retry_on)
        return self.retry_on(error)

    def interval(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1), without jitter."""
        return min(self.max_interval, self.initial_interval * self.backoff_factor ** (attempt - 1))


def _seconds(value: float | timedelta | None, field: str) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds <= 0:
        raise ValueError(f"{field} must be greater than 0")
    return seconds


@dataclass(kw_only=True, slots=True, frozen=True)
class TimeoutPolicy:
    """How long one attempt of a node may take: in all, and without any sign of progress (seconds or timedelta).

    `refresh_on="auto"`: stream writes, child tasks and callback events count as progress; `"heartbeat"`: only
    `runtime.heartbeat()` does.
    """

    run_timeout: float | timedelta | None = None
    idle_timeout: float | timedelta | None = None
    refresh_on: Literal["auto", "heartbeat"] = "auto"

    @classmethod
    def coerce(cls, value: float | timedelta | TimeoutPolicy | None) -> TimeoutPolicy | None:
        """Normalise to positive seconds; None when nothing is limited."""
        if value is None:
            return None
        policy = value if isinstance(value, TimeoutPolicy) else cls(run_timeout=value)
        if policy.refresh_on not in ("auto", "heartbeat"):
            raise ValueError("refresh_on must be 'auto' or 'heartbeat'")
        run_timeout = _seconds(policy.run_timeout, "run_timeout")
        idle_timeout = _seconds(policy.idle_timeout, "idle_timeout")
        if run_timeout is None and idle_timeout is None:
            return None
        return cls(run_timeout=run_timeout, idle_timeout=idle_timeout, refresh_on=policy.refresh_on)


def _frozen(value: Any, depth: int = 10) -> Any:
    if depth <= 0:
        return value
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)  # user data
        pairs = [(repr(key), key, _frozen(item, depth - 1)) for key, item in mapping.items()]
        return ["dict", *((key, item) for _, key, item in sorted(pairs, key=lambda pair: pair[0]))]
    if isinstance(value, (list, tuple)):
        sequence = cast("Sequence[Any]", value)  # user data
        return [type(sequence).__name__, *(_frozen(item, depth - 1) for item in sequence)]
    if isinstance(value, (set, frozenset)):
        members = cast("Set[Any]", value)  # user data
        return ["set", *sorted((_frozen(item, depth - 1) for item in members), key=repr)]
    return value


def default_cache_key(*args: Any, **kwargs: Any) -> str | bytes:
    """The exact encoding of a node's input, with dicts and sets put into one order."""
    from clew.serde import default_codec  # late: only cached nodes need it

    return default_codec().encode([_frozen(args), _frozen(kwargs)])


KeyFunc = TypeVar("KeyFunc", bound=Callable[..., str | bytes])


@dataclass(kw_only=True, slots=True, frozen=True)
class CachePolicy(Generic[KeyFunc]):
    """Reuse a node's writes for equal input; `ttl` in seconds, None for ever."""

    key_func: KeyFunc = default_cache_key  # pyright: ignore[reportAssignmentType] - the default fits every KeyFunc
    ttl: int | None = None
