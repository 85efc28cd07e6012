"""Failpoints: silent unless named."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from clew import _failpoints


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    yield
    _failpoints.configure("")


def test_a_failpoint_acts_at_its_hit_only() -> None:
    _failpoints.configure("here=raise@2;there=sleep(0)")
    _failpoints.hit("here")
    _failpoints.hit("elsewhere")
    _failpoints.hit("there")

    with pytest.raises(_failpoints.InjectedFailureError, match="failpoint 'here' was hit"):
        _failpoints.hit("here")

    _failpoints.hit("here")
    assert _failpoints.armed()


def test_a_barrier_waits_until_it_is_opened(tmp_path: Path) -> None:
    barrier = tmp_path / "gate"
    _failpoints.configure(f"here=barrier({barrier})")
    thread = threading.Thread(target=_failpoints.hit, args=("here",))
    thread.start()
    while not barrier.exists():
        thread.join(0.001)

    assert thread.is_alive()
    (tmp_path / "gate.go").touch()
    thread.join(10)
    assert not thread.is_alive()


def test_a_failpoint_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="failpoint 'here=explode' is not of the form name=action@n"):
        _failpoints.configure("here=explode")


def test_nothing_is_armed_by_default() -> None:
    assert not _failpoints.armed()
    _failpoints.hit("anything")
