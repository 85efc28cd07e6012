"""Background duties of the service, each done by one replica at a time. Rules over named queries; no I/O.

A replica takes a duty for a bounded time, on the database's clock, and holds on to it while it is at work. One that is
lost has its duty taken over when that time ends. Names of owners are never used twice.
"""

from __future__ import annotations

from clew.storage.query import Query, Steps


def take_duty(tenant: str, name: str, owner: str, lease: int) -> Steps[bool]:
    """Take a duty for `lease` microseconds; False if it is not due, or another one's."""
    return bool((yield Query("duty_take", (tenant, name, owner, lease))))


def renew_duty(tenant: str, name: str, owner: str, lease: int) -> Steps[bool]:
    """Hold on to a duty; False if it is another one's by now.

    In a transaction that does a part of the duty, nobody takes it over before that is done.
    """
    return bool((yield Query("duty_renew", (tenant, name, owner, lease)))[0][0])


def release_duty(tenant: str, name: str, owner: str, pause: int) -> Steps[None]:
    """Give a duty up; nobody takes it before `pause` microseconds have passed."""
    yield Query("duty_release", (tenant, name, owner, pause))


def duty_due(tenant: str, name: str) -> Steps[int]:
    """In how many microseconds a duty may be taken, at most; 0 or less: now."""
    rows = yield Query("duty_due", (tenant, name))
    return rows[0][0] if rows else 0
