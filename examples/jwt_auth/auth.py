"""Who asks, from a JSON Web Token, and what they may do, from its scopes.

The token is signed by whoever logs users in: with a secret that this service shares (HS256), or with a private key
whose public half this service has (RS256). Which of both is configured, and never read from the token.
"""

from __future__ import annotations

import os
from typing import Any

import jwt
from langgraph_sdk import Auth

READS = ("read", "search", "get", "list_namespaces")
REQUIRED = ["exp", "iat", "sub", "iss", "aud"]


class Tokens:
    """Checks tokens. `JWT_SECRET` or `JWT_PUBLIC_KEY` (PEM), `JWT_ISSUER` and `JWT_AUDIENCE` are in the environment."""

    def __init__(self, environment: Any = os.environ) -> None:
        secret, public_key = environment.get("JWT_SECRET"), environment.get("JWT_PUBLIC_KEY")
        if bool(secret) == bool(public_key):
            raise ValueError("set one of JWT_SECRET and JWT_PUBLIC_KEY")
        if secret and len(secret.encode()) < 32:
            raise ValueError("JWT_SECRET has fewer than 32 bytes; a token signed with it could be guessed")
        self._key = secret or public_key
        self._algorithm = "HS256" if secret else "RS256"
        self._issuer = environment["JWT_ISSUER"]
        self._audience = environment["JWT_AUDIENCE"]

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says; raises `jwt.InvalidTokenError`."""
        return jwt.decode(
            token, self._key, algorithms=[self._algorithm], audience=self._audience, issuer=self._issuer,
            options={"require": REQUIRED}, leeway=10,
        )  # fmt: skip


def make_auth(tokens: Tokens) -> Auth:
    """The service's authentication and authorization."""
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str | None) -> dict[str, Any]:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized("a bearer token is missing")
        try:
            claims = tokens.claims(token.strip())
        except jwt.InvalidTokenError as error:
            raise unauthorized(f"the token is refused: {error}") from error
        scopes = claims.get("scope", "")
        return {
            "identity": claims["sub"],
            "display_name": claims.get("name", claims["sub"]),
            "permissions": scopes.split() if isinstance(scopes, str) else [],
        }

    @auth.on
    async def by_scope(ctx: Auth.types.AuthContext, value: Any) -> bool:
        return ("chat:read" if ctx.action in READS else "chat:write") in ctx.permissions

    @auth.on.assistants(actions=["create", "update", "delete"])
    async def by_admins(ctx: Auth.types.AuthContext, value: Any) -> bool:
        return "assistants:write" in ctx.permissions

    return auth


def unauthorized(why: str) -> Auth.exceptions.HTTPException:
    return Auth.exceptions.HTTPException(401, why, headers={"WWW-Authenticate": "Bearer"})
