"""When schedules are due: gaps and overlaps of daylight saving, and what is no schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clew.server.errors import ApiError
from clew.server.schedules import check_schedule, following


def times(schedule: str, zone: str | None, begin: str, count: int) -> list[str]:
    """The next times after one, in UTC: day, hour and minute."""
    at = int(datetime.fromisoformat(begin).replace(tzinfo=UTC).timestamp() * 1_000_000)
    found: list[str] = []
    for _ in range(count):
        following_at = following(schedule, zone, at)
        assert following_at is not None
        assert following_at > at
        at = following_at
        found.append(datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("schedule", "zone", "begin", "expected"),
    [
        pytest.param("*/20 * * * *", None, "2026-03-01T10:05", ["01 10:20", "01 10:40", "01 11:00"], id="steps"),
        pytest.param("30 9 * * MON-FRI", None, "2026-03-06T10:00", ["09 09:30", "10 09:30"], id="names and ranges"),
        pytest.param("0 12 L * *", None, "2026-02-01T00:00", ["28 12:00", "31 12:00"], id="the last day of a month"),
        pytest.param("0 9 * * 1#2", None, "2026-03-01T00:00", ["09 09:00", "13 09:00"], id="the second Monday"),
        pytest.param("@daily", "Asia/Tokyo", "2026-03-01T00:00", ["01 15:00", "02 15:00"], id="a zone"),
        # Berlin: 02:00 to 03:00 does not exist on 29 March 2026, and exists twice on 25 October.
        pytest.param(
            "30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", ["28 01:30", "29 01:00", "30 00:30"], id="in a gap"
        ),
        pytest.param(
            "0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 01:00", "30 00:00"], id="twice in a gap is once"
        ),
        pytest.param(
            "30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 01:00", "29 01:30", "30 00:30"], id="in and after"
        ),
        pytest.param(
            "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 00:30", "26 01:30"], id="in an overlap"
        ),
        pytest.param(
            "30 * * * *", "Europe/Berlin", "2026-10-24T23:00", ["24 23:30", "25 00:30", "25 01:30"], id="every hour"
        ),
        pytest.param(
            "30 * * * *", "Europe/Berlin", "2026-03-29T00:00", ["29 00:30", "29 01:30", "29 02:30"], id="none too many"
        ),
        # New York: 8 March and 1 November; Lord Howe moves its clocks by half an hour on 5 April.
        pytest.param("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["08 07:00", "09 06:30"], id="another gap"),
        pytest.param("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["01 05:30", "02 06:30"], id="overlap"),
        pytest.param(
            "45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00", ["04 14:45", "05 15:15"], id="half an hour"
        ),
    ],
)  # fmt: skip
def test_times(schedule: str, zone: str | None, begin: str, expected: list[str]) -> None:
    assert times(schedule, zone, begin, len(expected)) == expected


def test_a_time_between_seconds() -> None:
    assert following("* * * * *", None, 59_900_000) == 60_000_000
    assert following("* * * * *", None, 60_000_000) == 120_000_000
    assert following("* * * * *", None, 60_000_001) == 120_000_000


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "* * * * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "0 0 30 2 *", "@reboot",
     "\x00 * * * *", "1,,2 * * * *", "1/1/1 * * * * " * 40],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ApiError, match="is not a cron schedule") as caught:
        check_schedule(schedule, None)
    assert caught.value.status == 422
    assert "30 9 * * MON-FRI" in (caught.value.hint or "")


def test_a_schedule_that_is_never_due_is_refused() -> None:
    with pytest.raises(ApiError, match=r"'0 0 \*/30 2 3#5' is never due"):
        check_schedule("0 0 */30 2 3#5", None)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "America", "../etc/passwd", "/etc/passwd", "Europe/Berlin\x00"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ApiError, match="is not a time zone") as caught:
        check_schedule("@daily", zone)
    assert caught.value.status == 422
