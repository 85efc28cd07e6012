"""Webhooks to a receiver of our own: signed, tried again, given up, and never sent elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.server.duties.turns import Desk
from clew.server.duties.webhooks import Deliver, pause_after
from clew.server.metrics import Metrics
from clew.server.webhooks import WebhookSettings
from clew.storage.deliveries import DeliveryRow, add_delivery, find_delivery
from tests.duties.kit import Office, duties_of

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
LOCAL = WebhookSettings(secret=SECRET, allow=["127.0.0.0/8"], first_pause=timedelta(0), timeout=timedelta(seconds=5))


@dataclass
class Receiver:
    """What was posted to it, and what it answers."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    location: str | None = None
    silence: threading.Event | None = None


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    received = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            if received.silence is not None:
                received.silence.wait(30)
            self.send_response(received.answers.pop(0) if received.answers else 200)
            if received.location is not None:
                self.send_header("location", received.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:  # a client that goes away is what some tests are about
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    received.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}/hook?of=run"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield received
    finally:
        if received.silence is not None:
            received.silence.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Office]:
    with SqliteSaver(tmp_path / "w.db", synchronous="NORMAL") as saver:
        yield Office(saver)


def tell(office: Office, url: str, run_id: str = "r1") -> None:
    """Have the end of a run be told."""
    run = office.run(f"thread of {run_id}", run_id, webhook=url)
    error = {"error": "ValueError", "message": "no"}
    office.do(lambda: add_delivery(office.place(run.thread), run, "error", error, b'{"answer":[1,null]}'))


def state(office: Office, run_id: str = "r1") -> DeliveryRow:
    return office.do(lambda: find_delivery(office.tenant, run_id), "read")


def work(office: Office, settings: WebhookSettings = LOCAL, times: int = 1) -> Metrics:
    metrics = Metrics()

    async def works() -> None:
        deliver = Deliver(Desk(office.saver), settings, metrics)
        for _ in range(times):
            await deliver.work()

    asyncio.run(works())
    return metrics


def verified(body: bytes, headers: dict[str, str], secret: str) -> bool:
    """What a receiver does, by the specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
    offered = [each.partition(",") for each in headers["webhook-signature"].split(" ")]
    is_recent = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return is_recent and any(v == "v1" and hmac.compare_digest(mac, expected) for v, _, mac in offered)


def test_a_receiver_is_told_and_can_verify_it(office: Office) -> None:
    with receiver() as received:
        tell(office, received.url)
        metrics = work(office, replace(LOCAL, headers={"x-mine": "yes"}))

    ((path, headers, body),) = received.got
    said = json.loads(body)
    assert (path, headers["content-type"], headers["x-mine"]) == ("/hook?of=run", "application/json", "yes")
    assert headers["host"] == received.url.split("/")[2]
    assert (said["run_id"], said["thread_id"], said["status"]) == ("r1", "thread of r1", "error")
    assert (said["error"]["message"], said["metadata"]["n"]) == ("no", 1)
    assert said["values"] == {"answer": [1, None]}
    assert headers["webhook-id"] == "r1"
    assert verified(body, headers, SECRET)
    assert not verified(body + b" ", headers, SECRET)
    assert state(office).status == "delivered"
    assert b'clew_webhooks_total{outcome="done"} 1.0' in metrics.as_text()


def test_while_secrets_change_both_sign_and_without_one_nothing_is_signed(
    here: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "whsec_" + base64.b64encode(b"f" * 24).decode()
    with receiver() as received:
        tell(here, received.url, "r1")
        work(here, replace(LOCAL, secret=f"{other} {SECRET}"))
        tell(here, received.url, "r2")
        work(here, replace(LOCAL, secret=None))
        monkeypatch.setenv("CLEW_WEBHOOK_SECRET", SECRET)
        tell(here, received.url, "r3")
        work(here, replace(LOCAL, secret=None))
    _, headers, body = received.got[0]
    assert verified(body, headers, SECRET)
    assert verified(body, headers, other)
    assert "webhook-signature" not in received.got[1][1]
    assert verified(received.got[2][2], received.got[2][1], SECRET)


def test_what_does_not_arrive_is_tried_again_with_the_same_id_and_body(
    here: Office, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver() as received, caplog.at_level(logging.INFO, "clew.server.webhooks"):
        received.answers = [500, 429]
        tell(here, received.url)
        metrics = work(here)
    assert {(headers["webhook-id"], body) for _, headers, body in received.got} == {("r1", received.got[0][2])}
    assert (state(here).status, state(here).attempt) == ("delivered", 3)
    assert b'clew_webhooks_total{outcome="failed"} 2.0' in metrics.as_text()
    assert [record.getMessage() for record in caplog.records] == [
        "webhook of run r1, attempt 1: failed: the receiver answered 500",
        "webhook of run r1, attempt 2: failed: the receiver answered 429",
        "webhook of run r1, attempt 3: done",
    ]


def test_it_is_given_up_after_so_many_attempts_or_when_the_receiver_is_gone(here: Office) -> None:
    with receiver() as received:
        received.answers = [500] * 3
        tell(here, received.url, "r1")
        work(here, replace(LOCAL, attempts=3))
        received.answers = [410]
        tell(here, received.url, "r2")
        metrics = work(here)
    assert len(received.got) == 4
    assert (state(here, "r1").status, state(here, "r1").error) == ("failed", "the receiver answered 500")
    assert (state(here, "r2").status, state(here, "r2").attempt) == ("failed", 1)
    assert b'clew_webhooks_total{outcome="given up"} 1.0' in metrics.as_text()


def test_redirects_are_not_followed(here: Office) -> None:
    with receiver() as received, receiver() as inner:
        received.answers, received.location = [307], inner.url
        tell(here, received.url)
        work(here, replace(LOCAL, attempts=1))
    assert inner.got == []
    assert state(here).error == "the receiver answered 307"


def test_a_host_that_is_not_public_is_given_up_at_once(here: Office) -> None:
    with receiver() as received:
        tell(here, received.url)
        work(here, replace(LOCAL, allow=()))
        tell(here, received.url.replace("127.0.0.1", "localtest.invalid"), "r2")
        work(here, replace(LOCAL, attempts=1))
    assert received.got == []
    assert (state(here).status, state(here).error) == ("failed", "host '127.0.0.1' is not a public one")
    assert "gaierror" in (state(here, "r2").error or "")


def test_a_silent_receiver_and_one_that_is_away_are_tried_again_later(here: Office) -> None:
    with receiver() as received:
        received.silence = threading.Event()
        tell(here, received.url, "r1")
        work(here, replace(LOCAL, timeout=timedelta(seconds=0.2), first_pause=timedelta(hours=1)))
    tell(here, received.url, "r2")
    work(here, replace(LOCAL, first_pause=timedelta(hours=1)))
    assert (state(here, "r1").status, state(here, "r1").error) == ("pending", "no answer within 0.2 s")
    assert (state(here, "r2").status, (state(here, "r2").error or "")[:12]) == ("pending", "ConnectError")
    assert state(here, "r2").next_at is not None


def test_pauses_grow() -> None:
    pauses = [pause_after(attempt, WebhookSettings()) for attempt in range(1, 11)]
    assert pauses[:4] == [5, 15, 45, 135]
    assert pauses[-1] == 4 * 3600
    assert 8 * 3600 < sum(pauses[:9]) < 10 * 3600


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side for a certificate of `name`, and a client's that trusts it."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + public)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=public.decode())


def test_the_certificate_is_the_hosts_although_the_address_was_looked_up_before(
    here: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trusting = certificate(tmp_path, "hooks.test")
    looked_up: list[str] = []

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    with receiver(server) as received, monkeypatch.context() as patched:
        patched.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        settings = replace(LOCAL, ssl_context=trusting, attempts=1)
        tell(here, received.url.replace("127.0.0.1", "hooks.test"), "r1")
        work(here, settings)
        tell(here, received.url.replace("127.0.0.1", "other.test"), "r2")
        work(here, settings)

    assert state(here, "r1").status == "delivered"
    assert received.got[0][1]["host"].startswith("hooks.test:")
    assert "not valid for 'other.test'" in (state(here, "r2").error or "")
    assert looked_up == ["hooks.test", "other.test"]
    assert len(received.got) == 1


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


def test_two_replicas_tell_each_end_once(office: Office) -> None:
    async def story() -> None:
        replicas = [duties_of(office.saver, webhooks=LOCAL) for _ in range(2)]
        for each in replicas:
            await each.start()
        for each in replicas:
            each.wake("webhooks")

        async def all_told() -> bool:
            return len(received.got) >= 8

        await until(all_told)
        for each in replicas:
            await each.stop()

    with receiver() as received:
        for number in range(8):
            tell(office, received.url, f"r{number}")
        asyncio.run(story())
    assert sorted(headers["webhook-id"] for _, headers, _ in received.got) == [f"r{number}" for number in range(8)]
