"""Who asks: each request has one `Owner`, from one place.

An owner is whose the rows are. Who asks is their owner, unless everything belongs to the installation (`shared`).
Without authentication everything belongs to everyone who can reach the port; what serves such an application binds to
the loopback interface only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import quote

from fastapi import Request

from clew.errors import UnsafeBindError
from clew.server.errors import ApiError
from clew.server.handlers import Handlers, only_one
from clew.server.users import User
from clew.threads import EVERYONE


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose threads, assistants and items a request is about. `user_id` None: they belong to no user, and all of them
    are meant. `claims` is what else the authentication knows; `user` is both, as handlers and graphs see them.

    Raises `ApiError` 401 for a `user_id` that is empty, too long, or that no database keeps.
    """

    user_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    user: User | None = None

    def __post_init__(self) -> None:
        """Know the user."""
        if self.user_id is not None and self.user is None:
            object.__setattr__(self, "user", User({**self.claims, "identity": self.user_id}))

    @property
    def of_threads(self) -> Any:
        """What `Threads.of` takes."""
        return EVERYONE if self.user_id is None else self.user_id

    @property
    def of_items(self) -> tuple[str, ...]:
        """The namespace that all of the owner's items in the store are under."""
        return () if self.user_id is None else (f"user {quote(self.user_id, safe='').replace('.', '%2E')}",)


Authenticate = Callable[[Request], Awaitable[Owner]]


async def everyone(request: Request) -> Owner:
    """No authentication. A key that a client sends nevertheless is not looked at."""
    return Owner()


class ApiKeys:
    """Authentication by keys in the header `x-api-key`, or as a bearer token: `{key: user_id}`."""

    def __init__(self, users: Mapping[str, str]) -> None:
        if not users or not all(users.keys()) or not all(users.values()):
            raise ValueError("API keys are a mapping from keys to user ids, neither of them empty")
        self._owners = {_digest(key): Owner(user) for key, user in users.items()}  # looked up in constant time

    async def __call__(self, request: Request) -> Owner:
        """The owner of the request's key; raises `ApiError` 401."""
        scheme, _, token = (only_one(request, "authorization") or "").partition(" ")
        key = only_one(request, "x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        owner = self._owners.get(_digest(key))
        if owner is None:
            raise ApiError(401, "the request has no valid API key", hint="send it in the header x-api-key")
        return owner


def authenticator(auth: Any, handlers: Handlers | None = None, *, is_shared: bool = False) -> Authenticate:
    """What `create_app` was given, as what is called for each request; `handlers` are those of a
    `langgraph_sdk.Auth`."""
    if handlers is not None:
        known: Authenticate = _Known(handlers)
    elif auth is None:
        known = everyone
    elif isinstance(auth, Mapping):
        known = ApiKeys(cast("Mapping[str, str]", auth))
    elif callable(auth):
        known = cast("Authenticate", auth)
    else:
        raise TypeError(
            f"auth is a {type(auth).__name__}, not a langgraph_sdk.Auth, a mapping of API keys, or an async function "
            "of a request"
        )
    return _Shared(known) if is_shared else known


class _Known:
    """The users that handlers know, each the owner of what is theirs."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def __call__(self, request: Request) -> Owner:
        user = await self._handlers.user(request)
        return Owner(user.identity, user.to_dict(), user)


class _Shared:
    """Users who own nothing: everything belongs to the installation."""

    def __init__(self, inner: Authenticate) -> None:
        self._inner = inner

    async def __call__(self, request: Request) -> Owner:
        return replace(await self._inner(request), user_id=None)


def api_keys_from_env(name: str = "CLEW_API_KEYS") -> dict[str, str] | None:
    """The API keys of an environment variable, `key:user,key2:user2`, as `create_app(auth=...)` takes them; None if it
    is not set. Raises `ValueError` for what is no such list; the message holds no key."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    users: dict[str, str] = {}
    for number, part in enumerate(text.split(","), start=1):
        key, separator, user = part.strip().partition(":")
        if not separator or not key.strip() or not user.strip() or key.strip() in users:
            raise ValueError(f"part {number} of {name} is not a new key:user")
        users[key.strip()] = user.strip()
    return users


def check_bindable(host: str, auth: object) -> None:
    """Raise `UnsafeBindError` if a service without authentication (`auth` None) is to listen on another address than
    the loopback interface's."""
    if auth is None and not _is_loopback(host):
        raise UnsafeBindError(
            f"a service without authentication does not listen on {host!r}: whoever reaches it owns everything",
            hint="set CLEW_API_KEYS or give it an auth, or bind it to 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
