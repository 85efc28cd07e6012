"""The duty that tells webhooks how their runs ended, until it has arrived or there is no hope."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Literal

from clew.server.duties.turns import MICROSECONDS, Desk
from clew.server.formats import encoded, run_json
from clew.server.metrics import Metrics
from clew.server.webhooks import RefusedError, WebhookSettings, port_of, resolve, signed
from clew.storage import deliveries as rules
from clew.storage.deliveries import Delivery
from clew.storage.runs import RunRow
from clew.version import __version__

log = logging.getLogger("clew.server.webhooks")
_AT_ONCE = 16  # deliveries under way
_LONGEST_PAUSE = 4 * 3600.0  # seconds
_GONE = 410  # the receiver wants no more of this
_TRIES = 3  # addresses of a host
_MARGIN = 30.0  # seconds that a delivery is claimed for beyond its timeout

Outcome = Literal["done", "failed", "given up"]


class Deliver:
    """Deliver what is due, several at a time."""

    name = "webhooks"
    patience = 1.0
    pause = 0.0

    def __init__(self, desk: Desk, settings: WebhookSettings, metrics: Metrics) -> None:
        self._desk = desk
        self._settings = settings
        self._metrics = metrics
        self._context = settings.ssl_context

    async def due(self) -> float | None:
        """In how many seconds the next delivery is due."""
        micros = await self._desk.do(lambda: rules.next_delivery(self._desk.tenant), "read")
        return None if micros is None else micros / MICROSECONDS

    async def work(self) -> None:
        """Deliver until nothing is due."""
        under_way: set[asyncio.Task[None]] = set()
        patience = int((self._settings.timeout.total_seconds() + _MARGIN) * MICROSECONDS)
        try:
            while True:
                room = _AT_ONCE - len(under_way)
                found = await self._desk.do(
                    lambda room=room: rules.claim_deliveries(self._desk.root, patience, room), "delivery"
                )
                under_way |= {asyncio.create_task(self.attempt(each)) for each in found}
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, timeout=1, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def attempt(self, delivery: Delivery) -> None:
        """Try once to deliver; what became of it is noted."""
        error = delivery.unreadable
        is_final = error is not None
        if error is None:
            error, is_final = await self._try(delivery)
        tenant = self._desk.tenant
        if error is None:
            self._note("done", delivery, "")
            await self._desk.do(lambda: rules.end_delivery(tenant, delivery), "delivery")
        elif is_final or delivery.attempt >= self._settings.attempts:
            self._note("given up", delivery, error)
            await self._desk.do(lambda: rules.end_delivery(tenant, delivery, error), "delivery")
        else:
            self._note("failed", delivery, error)
            pause = int(pause_after(delivery.attempt, self._settings) * random.uniform(0.75, 1.25) * MICROSECONDS)
            await self._desk.do(lambda: rules.delay_delivery(tenant, delivery, pause, error), "delivery")

    async def _try(self, delivery: Delivery) -> tuple[str | None, bool]:
        """What went wrong, if something did, and whether it always will."""
        try:
            async with asyncio.timeout(self._settings.timeout.total_seconds()):
                status = await self._send(delivery)
        except RefusedError as error:
            return str(error), True
        except TimeoutError:
            return f"no answer within {self._settings.timeout.total_seconds():g} s", False
        except Exception as error:  # of the network, of TLS, of HTTP
            return f"{type(error).__name__}: {error}", False
        if 200 <= status < 300:
            return None, False
        return f"the receiver answered {status}", status == _GONE

    async def _send(self, delivery: Delivery) -> int:
        """Post to the first address that can be reached; gives the status of the answer."""
        import httpx  # late, for start-up time

        assert delivery.url is not None, "what cannot be read is not tried"
        parts, addresses = await resolve(delivery.url, self._settings)
        body = body_of(delivery)
        headers = {
            **self._settings.headers,
            "host": parts.netloc,
            "content-type": "application/json",
            "user-agent": f"clew/{__version__}",
            **signed(delivery.run_id, int(time.time()), body, self._settings.keys),
        }
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._context = self._context or httpx.create_ssl_context()  # once: it reads many certificates
        # No connection is kept: it would serve another host that has the same address, under this one's certificate.
        seconds = self._settings.timeout.total_seconds()
        async with httpx.AsyncClient(
            verify=self._context,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=seconds / _TRIES),
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client:
            refused: Exception = OSError("no address")
            for address in addresses[:_TRIES]:
                literal = f"[{address}]" if ":" in address else address
                url = f"{parts.scheme}://{literal}:{port_of(parts)}{path}"
                name = {"sni_hostname": parts.hostname}  # the certificate is to be the host's
                request = client.build_request("POST", url, content=body, headers=headers, extensions=name)
                try:
                    response = await client.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    refused = error
                    continue
                await response.aclose()  # what it says besides is not read
                return response.status_code
            raise refused

    def _note(self, outcome: Outcome, delivery: Delivery, error: str) -> None:
        self._metrics.webhook(outcome)
        said = "" if outcome == "done" else f": {error}"
        level = {"done": logging.INFO, "failed": logging.WARNING, "given up": logging.ERROR}[outcome]
        log.log(level, "webhook of run %s, attempt %d: %s%s", delivery.run_id, delivery.attempt, outcome, said)


def pause_after(attempt: int, settings: WebhookSettings) -> float:
    """How many seconds pass after an attempt, but for chance."""
    return min(settings.first_pause.total_seconds() * 3.0 ** (attempt - 1), _LONGEST_PAUSE)


def body_of(delivery: Delivery) -> bytes:
    """What is posted: the run as it ended, and the values that it left."""
    said: dict[str, Any] = {name: delivery.run.get(name) for name in RunRow._fields}
    run = RunRow(**said)._replace(updated_at=delivery.created_at, ended_at=delivery.created_at)
    return encoded(run_json(run))[:-1] + b',"values":' + (delivery.values or b"null") + b"}"
