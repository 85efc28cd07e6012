"""Who asks: each request has one `Owner`, from one place.

Without authentication everything belongs to everyone who can reach the port; what serves such an application binds to
the loopback interface only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

from fastapi import Request

from clew.errors import UnsafeBindError
from clew.server.errors import ApiError
from clew.threads import EVERYONE


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose threads, assistants and items a request is about. `user_id` None: there are no users here, and all belongs
    to everyone. `claims` is what else the authentication knows, for the application's own use."""

    user_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])

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
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        owner = self._owners.get(_digest(key))
        if owner is None:
            raise ApiError(401, "the request has no valid API key", hint="send it in the header x-api-key")
        return owner


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


def authenticator(auth: Authenticate | Mapping[str, str] | None) -> Authenticate:
    """What `create_app` was given, as what is called for each request."""
    if auth is None:
        return everyone
    if isinstance(auth, Mapping):
        return ApiKeys(cast("Mapping[str, str]", auth))
    if not callable(auth):
        raise TypeError(f"auth is a {type(auth).__name__}, not a mapping of API keys or an async function of a request")
    return auth


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
