"""Who asks, as authorization handlers, factories and graphs see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from clew.errors import SerializationError
from clew.server.errors import ApiError
from clew.server.formats import plain
from clew.threads._threads import USER_MAX

USER = "langgraph_auth_user"
_WILDCARD = "*"  # any label, where namespaces are listed by a prefix that handlers begin with an identity


class User(Mapping[str, Any]):
    """A user: what the authentication said, by key and, like the platform's, by attribute.

    `identity`, `display_name`, `is_authenticated` and `permissions` are always there.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        identity = checked(fields.get("identity"))
        own = {"display_name": identity, "is_authenticated": True, **fields, "identity": identity}
        self._fields: Mapping[str, Any] = {**own, "permissions": _permissions(fields.get("permissions"))}

    @property
    def identity(self) -> str:
        """The user's id."""
        return self._fields["identity"]

    @property
    def display_name(self) -> str:
        """What to call the user."""
        return self._fields["display_name"]

    @property
    def is_authenticated(self) -> bool:
        """Whether the authentication says that it knows the user."""
        return bool(self._fields["is_authenticated"])

    @property
    def permissions(self) -> Sequence[str]:
        """What the user may do, in words of the application."""
        return self._fields["permissions"]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._fields:
            return self._fields[name]
        raise AttributeError(f"the user has no {name!r}")

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"User({self.identity!r})"  # the rest may be secret

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict."""
        return {**self._fields}


def checked(identity: Any) -> str:
    """A user's id; raises `ApiError` 401 for a text that names nobody, `TypeError` for what is no text."""
    if not isinstance(identity, str):
        raise TypeError(f"the authentication gave an identity that is a {type(identity).__name__}, not a text")
    is_kept = "\x00" not in identity and not any("\ud800" <= character <= "\udfff" for character in identity)
    if not identity.strip() or identity == _WILDCARD or len(identity) > USER_MAX or not is_kept:
        raise ApiError(401, f"the request's identity is not a text of 1 to {USER_MAX} characters")
    return identity


def user_of(given: Any) -> User:
    """A user from what an authentication gave: an id, a mapping, or an object with attributes."""
    if isinstance(given, User):
        return given
    if isinstance(given, str):
        return User({"identity": given})
    if isinstance(given, Mapping):
        return User(cast("Mapping[str, Any]", given))
    known = {
        name: getattr(given, name)
        for name in ("display_name", "is_authenticated", "permissions")
        if hasattr(given, name)
    }
    return User({**_public(given), **known, "identity": getattr(given, "identity", None)})


def configurable(user: User | None) -> dict[str, Any]:
    """What the `configurable` of a run says about its user: JSON, to be stored with the run."""
    if user is None:
        return {}
    try:
        said: Any = plain(user.to_dict())
    except SerializationError as error:
        raise TypeError(f"the authentication gave a user that cannot be kept as JSON: {error}") from error
    return {USER: said, f"{USER}_id": user.identity, "langgraph_auth_permissions": list(user.permissions)}


def with_user(held: Mapping[str, Any]) -> dict[str, Any]:
    """The `configurable` of a stored run for its graph: the user is a `User` again."""
    said = held.get(USER)
    return {**held, USER: User(cast("Mapping[str, Any]", said))} if isinstance(said, Mapping) else {**held}


def _public(given: Any) -> dict[str, Any]:
    if hasattr(given, "model_dump"):
        return given.model_dump()
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    return {name: value for name, value in getattr(given, "__dict__", {}).items() if not name.startswith("_")}


def _permissions(given: Any) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str) or not isinstance(given, Sequence | set | frozenset):
        raise TypeError(f"the authentication gave permissions that are a {type(given).__name__}, not a list of texts")
    return list(cast("Sequence[str]", given))
