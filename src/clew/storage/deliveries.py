"""What is told to a run's webhook when it has ended: written with its end, tried until it arrives. Rules; no I/O.

A delivery outlives its run and its thread: what a stateless run gave is told after its thread is gone. Its body goes
when it has arrived or was given up.

Invariants: a run has one delivery; an attempt that took too long changes nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import ormsgpack

from clew.serde.compress import pack, unpack
from clew.storage.log import Place, Waiting
from clew.storage.query import Query, Row, Steps
from clew.storage.runs import RunRow


class DeliveryRow(NamedTuple):
    """How far a delivery is. Times in microseconds since 1970; `next_at` None: it is over, and `status` says how:
    "delivered" or "failed", else "pending"."""

    run_id: str
    thread: str
    status: str
    attempt: int
    created_at: int
    next_at: int | None
    error: str | None


class Delivery(NamedTuple):
    """What an attempt delivers: the run's row as it ended, and the values that it left, as JSON text, if it had any.
    `created_at` is when it ended. Without a `url` what was stored cannot be read, and `unreadable` says why."""

    run_id: str
    thread: str
    attempt: int
    created_at: int
    url: str | None
    run: Mapping[str, Any]
    values: bytes | None
    unreadable: str | None = None


def add_delivery(
    place: Place, run: RunRow, status: str, error: Mapping[str, Any] | None = None, values: bytes | None = None
) -> Steps[None]:
    """Have a run's end told to the webhook that its request names; does nothing if it names none.

    For the transaction that ends the run: `yield from add_delivery(...)` at its thread's place. `values` is what
    the run gives, as JSON text, since its thread may be gone before it is told.
    """
    url = run.request.get("webhook")
    if not url:
        return
    said = {**run._asdict(), "status": status, "error": None if error is None else dict(error)}
    body = pack(ormsgpack.packb((url, json.dumps(said), values)))
    sealed = place.vault.seal_task(place, _bound(run.run_id, body))
    yield Query("delivery_add", (place.tenant, run.run_id, place.thread, sealed))


def find_delivery(tenant: str, run_id: str) -> Steps[DeliveryRow | None]:
    """How far the delivery of a run is; None if it has none."""
    rows = yield Query("delivery_get", (tenant, run_id))
    return DeliveryRow._make(rows[0]) if rows else None


def next_delivery(tenant: str) -> Steps[int | None]:
    """In how many microseconds the next delivery is due; None: there is none."""
    return (yield Query("delivery_next", (tenant,)))[0][0]


def claim_deliveries(root: Place, patience: int, limit: int) -> Steps[list[Delivery]]:
    """Take up to `limit` deliveries that are due; each is due again in `patience` microseconds unless it is settled."""
    rows = yield Query("delivery_claim", (root.tenant, patience, limit))
    return [_read(root.of(row[1]), row) for row in rows]


def delay_delivery(tenant: str, delivery: Delivery, pause: int, error: str) -> Steps[None]:
    """An attempt did not arrive: the next one is due in `pause` microseconds."""
    yield Query("delivery_again", (tenant, delivery.run_id, delivery.attempt, pause, error))


def end_delivery(tenant: str, delivery: Delivery, error: str | None = None) -> Steps[bool]:
    """A delivery has arrived or, with an `error`, is given up; gives whether this attempt decided that."""
    status = "delivered" if error is None else "failed"
    done = yield Query("delivery_over", (tenant, delivery.run_id, delivery.attempt, status, error))
    return bool(done[0][0])


def forget_deliveries(tenant: str, keep: int, limit: int) -> Steps[int]:
    """Remove what is known of up to `limit` deliveries that are over and older than `keep` microseconds."""
    return (yield Query("delivery_forget", (tenant, keep, limit)))[0][0]


def _bound(run_id: str, body: bytes) -> Waiting:
    """What a sealed body is bound to, besides its thread."""
    return Waiting(0, 0, b"delivery " + run_id.encode(), 0, body)


def _read(place: Place, row: Row) -> Delivery:
    """One that cannot be read stands in nobody's way: whoever has it gives it up."""
    run_id, thread, attempt, created_at, body = row
    try:
        url, run, values = ormsgpack.unpackb(unpack(place.vault.open_task(place, _bound(run_id, body))))
    except Exception as error:  # damaged, or under a key that is gone
        return Delivery(run_id, thread, attempt, created_at, None, {}, None, f"{type(error).__name__}: {error}")
    return Delivery(run_id, thread, attempt, created_at, url, json.loads(run), values)
