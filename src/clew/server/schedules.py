"""When a cron is due: five fields in a time zone.

What a field may say is cronsim's, which does what Debian's cron does: names, lists, ranges and steps, `L` for a month's
last day and `LW` for its last weekday, `MON#2` and `5L`. Where both days are restricted, either will do.

Where clocks are set forward, a time that does not exist is due right after the gap; where they are set back, a time
that exists twice is due the first time. A schedule whose minute or hour begins with `*` goes by the time that passes,
not by the clock on the wall: every quarter of an hour is due in every quarter of an hour there is.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from clew.server.errors import ApiError

LONGEST = 200  # characters
_SECOND = 1_000_000  # microseconds
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def following(schedule: str, timezone: str | None, after: int) -> int | None:
    """The first time after one at which a schedule is due, in microseconds since 1970; None if there is none.

    Raises `ApiError` 422 for what is no schedule or no time zone.
    """
    zone = _zone(timezone)
    begin = datetime.fromtimestamp(after // _SECOND, zone)
    try:
        found = next(CronSim(_fields(schedule), begin), None)
    except CronSimError as error:
        raise _not_one(schedule, str(error)) from None
    except OverflowError:  # the calendar ends
        return None
    return None if found is None else int(found.timestamp()) * _SECOND


def check_schedule(schedule: str, timezone: str | None) -> None:
    """Raise `ApiError` 422 for what is no schedule, no time zone, or never due."""
    now = int(datetime.now(UTC).timestamp()) * _SECOND
    if following(schedule, timezone, now) is None:
        raise ApiError(422, f"schedule {schedule!r} is never due")


def _fields(schedule: str) -> str:
    named = _NAMED.get(schedule.strip().lower(), schedule)
    if len(schedule) > LONGEST:
        raise _not_one(schedule[:40], f"it is longer than {LONGEST} characters")
    if len(named.split()) != 5:
        raise _not_one(schedule, "it does not have five fields")
    return named


def _not_one(schedule: str, why: str) -> ApiError:
    hint = "minute, hour, day of month, month, day of week: '30 9 * * MON-FRI'"
    return ApiError(422, f"{schedule!r} is not a cron schedule: {why[:1].lower()}{why[1:]}", hint=hint)


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a directory, or a way out of it
        raise ApiError(422, f"{name!r} is not a time zone", hint="an IANA name, such as 'Europe/Berlin'") from None
