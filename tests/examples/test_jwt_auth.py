"""The service with JSON Web Tokens: who is let in, who is not, and what the tokens' scopes allow."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from langgraph_sdk.client import LangGraphClient

from clew.checkpoint.sqlite import SqliteSaver
from clew.store.memory import InMemoryStore
from examples.jwt_auth.app import make_app
from examples.jwt_auth.auth import Tokens

SECRET = "a secret of more than thirty-two bytes"
ALL = "chat:read chat:write assistants:write"


class Login:
    """Whoever logs users in: it has the key that signs."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.key: Any = SECRET
        self.environment = {"JWT_ISSUER": "https://login", "JWT_AUDIENCE": "chat", "JWT_SECRET": SECRET}
        if algorithm == "RS256":
            self.key, public = pair()
            del self.environment["JWT_SECRET"]
            self.environment["JWT_PUBLIC_KEY"] = public

    def token(self, user: Any = "ada", **claims: Any) -> str:
        now = int(time.time())
        said = {"sub": user, "scope": ALL, "iss": "https://login", "aud": "chat", "iat": now, "exp": now + 60, **claims}
        kept = {key: value for key, value in said.items() if value is not None}
        return jwt.encode(kept, self.key, self.algorithm)


def pair() -> tuple[Any, str]:
    """A private key, and the public one as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


class Service:
    """The example, in this process."""

    def __init__(self, app: Any, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://clew")
        self.client = LangGraphClient(self.http)

    def get(self, token: str | None, path: str = "/threads/t") -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return self.runner.run(self.http.get(path, headers=headers))

    def do(self, room: str, method: str, token: str, *args: Any, **kwargs: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return self.runner.run(getattr(getattr(self.client, room), method)(*args, headers=headers, **kwargs))


@pytest.fixture(scope="module", params=["HS256", "RS256"])
def login(request: pytest.FixtureRequest) -> Login:
    return Login(request.param)


@pytest.fixture
def service(login: Login, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name, value in login.environment.items():
        monkeypatch.setenv(name, value)
    with asyncio.Runner() as runner, SqliteSaver.from_conn_string(":memory:") as saver:
        app = make_app(saver, InMemoryStore())
        yield Service(app, runner)
        runner.run(app.state.clew.drain(0))


def test_users_are_let_in_and_see_what_is_theirs(login: Login, service: Service) -> None:
    ada, bob = login.token("ada", name="Ada"), login.token("bob")
    thread = service.do("threads", "create", ada, graph_id="chat")

    assert thread["user_id"] == "ada"
    assert service.get(ada, f"/threads/{thread['thread_id']}").status_code == 200
    assert service.get(bob, f"/threads/{thread['thread_id']}").status_code == 404
    assert service.do("threads", "search", bob) == []


def test_the_graph_knows_its_user(login: Login, service: Service) -> None:
    ada = login.token("ada", name="Ada")
    thread = service.do("threads", "create", ada)["thread_id"]

    answer = service.do("runs", "wait", ada, thread, "chat", input={"said": ["hello"]})

    assert answer == {"said": ["hello", "Ada, you have said 1"]}


def test_tokens_that_are_refused(login: Login, service: Service) -> None:
    now, other = int(time.time()), Login(login.algorithm)
    other.key = "another secret that is as long as it must be" if login.algorithm == "HS256" else pair()[0]
    whole = login.token()
    refused = {
        "expired": login.token(exp=now - 11),
        "never expires": login.token(exp=None),
        "of nobody": login.token(None),
        "no text": login.token().replace(".", ""),
        "of tomorrow": login.token(iat=now + 86400),
        "another service": login.token(aud="mail"),
        "any service": login.token(aud=None),
        "another issuer": login.token(iss="https://evil"),
        "any issuer": login.token(iss=None),
        "another key": other.token(),
        "changed": whole.rpartition(".")[0] + "." + "A" * len(whole.rpartition(".")[2]),
        "unsigned": jwt.encode(jwt.decode(whole, options={"verify_signature": False}), None, "none"),
        "empty": "",
    }
    for name, token in refused.items():
        answer = service.get(token)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), name
    assert service.get(None).json() == {"detail": "a bearer token is missing"}
    assert service.get(login.token("")).status_code == 401
    assert service.get(whole).status_code == 404


def test_a_public_key_is_no_secret() -> None:
    login = Login("RS256")
    public = login.environment["JWT_PUBLIC_KEY"].encode()
    claims = jwt.decode(login.token(), options={"verify_signature": False})
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)]
    signed = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.new(public, signed, hashlib.sha256).digest()).rstrip(b"=")

    with pytest.raises(jwt.InvalidAlgorithmError):
        Tokens(login.environment).claims((signed + b"." + signature).decode())


def test_scopes_say_what_is_allowed(login: Login, service: Service) -> None:
    thread = service.do("threads", "create", login.token(), graph_id="chat")["thread_id"]
    reader, writer, nobody = (login.token(scope=scope) for scope in ("chat:read", "chat:write", None))

    assert service.get(reader, f"/threads/{thread}").status_code == 200
    assert service.get(writer, f"/threads/{thread}").status_code == 403
    assert service.get(nobody, f"/threads/{thread}").status_code == 403
    with pytest.raises(Exception, match="forbidden"):
        service.do("threads", "delete", reader, thread)
    with pytest.raises(Exception, match="forbidden"):
        service.do("assistants", "create", login.token(scope="chat:read chat:write"), "chat")
    assert service.do("assistants", "create", login.token(), "chat")["graph_id"] == "chat"
    service.do("threads", "delete", writer, thread)


def test_keys_that_are_wrong_are_refused_when_the_service_starts() -> None:
    given = {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}
    for keys, message in (
        ({}, "set one of"), ({"JWT_SECRET": "s" * 32, "JWT_PUBLIC_KEY": "k"}, "set one of"),
        ({"JWT_SECRET": "short"}, "fewer than 32 bytes"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Tokens({**given, **keys})
