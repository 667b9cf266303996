"""The hours of sunset. Settings and a moment enter; moments and local dates leave. Nothing here waits.

Local time decides: a clock night belongs to the local date of its sunset, so there is one for each date,
also when 02:00 comes twice or not at all.
"""

from __future__ import annotations

import contextlib
import time as system_time
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ada_memory.errors import BadSetting
from ada_memory.settings import SunsetSettings


class Hour(NamedTuple):
    """One sunset: the moment, in UTC, and the local date that it belongs to."""

    at: datetime
    date: date

    @property
    def night(self) -> str:
        """The id of the clock night of this sunset."""
        return self.date.isoformat()


def zone(settings: SunsetSettings) -> tzinfo:
    """The time zone of sunset.

    Raises:
        BadSetting: there is no such zone, or the machine's own is not known.
    """
    try:
        if settings.timezone:
            return ZoneInfo(settings.timezone)
        import tzlocal  # noqa: PLC0415  comes with APScheduler

        return tzlocal.get_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Europe" is a folder of zones
        if settings.timezone:
            said = f"sunset.timezone = {settings.timezone!r}: there is no such zone"
        else:
            said = "sunset.timezone is empty, and the machine's own time zone is not known"
        raise BadSetting(
            said, hint="set it to an IANA name such as Europe/Berlin", field="sunset.timezone"
        ) from None


def last_hour(settings: SunsetSettings, now: datetime) -> Hour | None:
    """The latest sunset up to `now` with its date; None if the clock starts no nights."""
    moment = now.astimezone(UTC)
    return max((hour for hour in _around(settings, now) if hour.at <= moment), default=None)


def last_sunset(settings: SunsetSettings, now: datetime) -> datetime | None:
    """The latest sunset up to `now`, in local time; None if the clock starts no nights."""
    hour = last_hour(settings, now)
    return hour.at.astimezone(zone(settings)) if hour else None


def next_sunset(settings: SunsetSettings, now: datetime) -> datetime | None:
    """The first sunset after `now`, in local time; None if the clock starts no nights."""
    moment = now.astimezone(UTC)
    coming = [hour.at for hour in _around(settings, now) if hour.at > moment]
    return min(coming).astimezone(zone(settings)) if coming else None


def clock_night(settings: SunsetSettings, now: datetime) -> str:
    """The id of the clock night that `now` belongs to: the local date of the latest sunset."""
    hour = last_hour(settings, now)
    return hour.night if hour else now.astimezone(zone(settings)).date().isoformat()


def reread_local_zone() -> None:
    """Notice that the machine has moved to another time zone; an unreadable one leaves the last."""
    import tzlocal  # noqa: PLC0415  comes with APScheduler

    system_time.tzset()
    with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
        tzlocal.reload_localzone()


def _around(settings: SunsetSettings, now: datetime) -> list[Hour]:
    """The sunsets of the days around `now`, one a local date; moments in UTC: only there they compare.

    A time that does not exist (spring) is moved by the hour that was lost; of one that comes twice
    (autumn), the first counts.
    """
    if not settings.at:
        return []
    place, at = zone(settings), time.fromisoformat(settings.at)
    today = now.astimezone(place).date()
    days = (today + timedelta(days=offset) for offset in (-2, -1, 0, 1, 2))
    return [Hour(datetime.combine(day, at, place).astimezone(UTC), day) for day in days]
