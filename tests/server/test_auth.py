"""`langgraph_sdk.Auth` as the class that users have: who asks."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import httpx
import pytest
from langgraph_sdk import Auth

from clew.server import Owner
from tests.server.kit import Serve, keyed


class Asked:
    """A service whose authentication is what a test says, and who was let in last."""

    def __init__(self, serve: Serve) -> None:
        self.handler: Any = None
        self.ctx: Any = None
        auth = Auth()

        @auth.authenticate
        async def authenticate(authorization: str | None) -> Any:
            given = self.handler()
            return await given if inspect.isawaitable(given) else given

        @auth.on
        async def look(ctx: Any, value: Any) -> None:
            self.ctx = ctx

        self.api = serve(auth)

    def answer(self, handler: Any) -> httpx.Response:
        self.handler = handler
        return self.api.request("POST", "/threads/count", json={})


def test_the_authentication_is_given_what_it_names(serve: Serve) -> None:
    given: dict[str, Any] = {}

    def authenticate(
        request: Any, body: Any, path: str, method: str, path_params: Any, query_params: Any, headers: Any,
        authorization: str | None, scope: Any, other: int = 7,
    ) -> str:  # fmt: skip
        given.update(locals())
        return "ada"

    auth = Auth()
    auth.authenticate(authenticate)
    api = serve(auth)

    answer = api.request(
        "PATCH", "/threads/a%2Fb?x=1", json={"title": "t"}, headers={"Authorization": "Bearer t", "X-Other": "o"}
    )

    assert answer.status_code == 404
    assert given["body"] == {"title": "t"}
    assert (given["path"], given["method"], given["other"]) == ("/threads/a/b", "PATCH", 7)
    assert (given["path_params"], given["query_params"]) == ({"thread_id": "a/b"}, {"x": "1"})
    assert given["authorization"] == "Bearer t"
    headers = given["headers"]
    assert (headers[b"x-other"], headers["X-Other"], headers.get("x-other")) == (b"o", "o", "o")
    assert (b"x-none" in headers, headers.get("x-none"), "X-OTHER" in headers) == (False, None, True)
    assert given["request"].headers["x-other"] == "o"
    assert given["scope"]["type"] == "http"


@dataclasses.dataclass
class Person:
    identity: str
    permissions: tuple[str, ...] = ("read",)
    is_authenticated: bool = True
    email: str = "ada@example.org"


class Plain:
    def __init__(self) -> None:
        self.identity = "ada"
        self.email = "ada@example.org"
        self._token = "secret"


@pytest.mark.parametrize(
    "given",
    [{"identity": "ada", "email": "ada@example.org"}, Person("ada"), Plain()],
    ids=["dict", "dataclass", "object"],
)
def test_a_user_has_what_the_authentication_said(serve: Serve, given: Any) -> None:
    async def authenticate() -> Any:
        return given

    asked = Asked(serve)

    assert asked.answer(authenticate).status_code == 200
    ctx, user = asked.ctx, asked.ctx.user
    assert (user.identity, user["identity"], user.display_name, user.is_authenticated) == ("ada", "ada", "ada", True)
    assert (user.email, user["email"], user.get("none"), "email" in user) == (
        "ada@example.org",
        "ada@example.org",
        None,
        True,
    )
    assert list(ctx.permissions) == list(user.permissions) == list(getattr(given, "permissions", ()))
    assert "_token" not in user
    with pytest.raises(AttributeError, match="the user has no 'phone'"):
        _ = user.phone
    assert repr(user) == "User('ada')"


def test_an_id_is_a_user(serve: Serve) -> None:
    asked = Asked(serve)

    status, ctx = asked.answer(lambda: "ada").status_code, asked.ctx
    assert (status, ctx.user.identity, list(ctx.permissions)) == (200, "ada", [])
    assert (ctx.resource, ctx.action) == ("threads", "search")


def test_a_refusal_is_the_answer(serve: Serve) -> None:
    async def refuse() -> str:
        raise Auth.exceptions.HTTPException(418, "no tea", headers={"x-why": "because"})

    answer = Asked(serve).answer(refuse)

    assert (answer.status_code, answer.json(), answer.headers["x-why"]) == (418, {"detail": "no tea"}, "because")


async def _asserting() -> str:
    raise AssertionError("the secret is 42")


async def _failing() -> str:
    raise RuntimeError("the secret is 42")


def test_what_fails_lets_nobody_in(serve: Serve) -> None:
    asked = Asked(serve)

    for handler, status in ((_asserting, 401), (_failing, 500)):
        answer = asked.answer(handler)
        assert (answer.status_code, "secret is" in answer.text) == (status, False)


def test_nobody_gets_in_by_mistake(serve: Serve) -> None:
    nobody = [
        "",
        " ",
        "a\x00b",
        "\ud800",
        "x" * 256,
        "*",
        {"identity": "ada", "is_authenticated": False},
        {"identity": ""},
    ]
    wrong = [
        None, 7, {"identity": 7}, {"identity": None}, {"sub": "ada"}, {"identity": "ada", "permissions": "read"}
    ]  # fmt: skip

    asked = Asked(serve)

    for given in nobody:
        assert asked.answer(lambda given=given: given).status_code == 401, given
    for given in wrong:
        assert asked.answer(lambda given=given: given).status_code == 500, given
    assert asked.ctx is None


def test_an_auth_that_knows_nobody_is_refused(serve: Serve) -> None:
    with pytest.raises(ValueError, match=r"the Auth has no @auth\.authenticate"):
        serve(Auth())
    auth = Auth()
    auth.authenticate(lambda token: "ada")
    with pytest.raises(ValueError, match="takes 'token', which is none of request, body"):
        serve(auth)
    with pytest.raises(TypeError, match=r"auth is a int, not a langgraph_sdk\.Auth"):
        serve(7)


def test_two_headers_that_say_who_asks_are_refused(serve: Serve) -> None:
    api, keys = serve(keyed()), serve({"k": "ada"})

    for service, name in ((api, "Authorization"), (keys, "authorization"), (keys, "X-Api-Key")):
        headers = httpx.Headers([("x-api-key", "k"), (name, "Bearer k"), (name.lower(), "Bearer k")])
        answer = service.request("GET", "/threads/t", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (
            400, f"the request has more than one header {name.lower()}",
        )  # fmt: skip


def test_what_needs_no_user_is_open(serve: Serve) -> None:
    async def refuse() -> str:
        raise Auth.exceptions.HTTPException()

    auth = Auth()
    auth.authenticate(refuse)
    api = serve(auth)

    assert api.request("GET", "/ok").status_code == 200
    assert api.request("GET", "/info").status_code == 200
    assert api.request("GET", "/threads/t").json() == {"detail": "Unauthorized"}


def test_each_identity_is_another_owner(serve: Serve) -> None:
    names = ("ada", "Ada", "é", "e\u0301", "EVERYONE", "None", "a/b", "a.b")
    auth = Auth()
    auth.authenticate(lambda query_params: query_params["me"])
    api = serve(auth)

    for name in names:
        made = api.request("POST", "/threads", params={"me": name}, json={"metadata": {"of": name}})
        assert (made.status_code, made.json()["user_id"]) == (200, name)
        item = {"namespace": ["n"], "key": "k", "value": {"of": name}}
        assert api.request("PUT", "/store/items", params={"me": name}, json=item).status_code == 204

    for name in names:
        found = api.request("POST", "/threads/search", params={"me": name}, json={}).json()
        item = api.request("GET", "/store/items", params={"me": name, "namespace": "n", "key": "k"}).json()
        assert [thread["metadata"]["of"] for thread in found] == [name] == [item["value"]["of"]]


def test_an_owner_without_a_name_is_nobody(serve: Serve) -> None:
    async def nameless(request: Any) -> Owner:
        return Owner("")

    assert serve(nameless).request("POST", "/assistants/search", json={}).status_code == 401
