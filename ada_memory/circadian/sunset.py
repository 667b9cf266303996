"""What starts a night. The clock and the counter enter; calls of `sleep(kind)` leave.

Local time decides: a clock night belongs to the local date of its sunset, so there is one for each date,
also when 02:00 comes twice or not at all. A sunset that passed while the machine slept is caught up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ada_memory.errors import AdaError, BadSetting, Conflict
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import NightKind, NightRecord
from ada_memory.settings import SunsetSettings

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

Sleep = Callable[[NightKind], Awaitable[NightRecord]]
MISFIRE_GRACE_SECONDS = 6 * 3600
CATCH_UP_MINUTES = 10
_LONGEST_GAP = timedelta(days=1)
_NIGHTS_BACK = 8
log = logging.getLogger(__name__)


def zone(settings: SunsetSettings) -> tzinfo:
    """The time zone of sunset.

    Raises:
        BadSetting: there is no such zone.
    """
    if not settings.timezone:
        import tzlocal  # noqa: PLC0415  comes with APScheduler

        return tzlocal.get_localzone()
    try:
        return ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadSetting(
            f"sunset.timezone = {settings.timezone!r}: there is no such zone",
            hint="use an IANA name such as Europe/Berlin", field="sunset.timezone",
        ) from None


def last_sunset(settings: SunsetSettings, now: datetime) -> datetime | None:
    """The latest sunset up to `now`, in local time; None if the clock starts no nights."""
    passed = [at for at in _around(settings, now) if at <= now.astimezone(UTC)]
    return max(passed).astimezone(zone(settings)) if passed else None


def next_sunset(settings: SunsetSettings, now: datetime) -> datetime | None:
    """The first sunset after `now`, in local time; None if the clock starts no nights."""
    coming = [at for at in _around(settings, now) if at > now.astimezone(UTC)]
    return min(coming).astimezone(zone(settings)) if coming else None


def clock_night(settings: SunsetSettings, now: datetime) -> str:
    """The id of the clock night that `now` belongs to: the local date of the latest sunset."""
    at = last_sunset(settings, now)
    return (at or now.astimezone(zone(settings))).date().isoformat()


class Sunset:
    """Starts nights: `start()` on a running loop, then `close()`."""

    def __init__(
        self, settings: SunsetSettings, journal: Journal, sleep: Sleep, clock: Callable[[], datetime]
    ) -> None:
        zone(settings)  # a bad zone is an error now, not at two in the morning
        self._settings = settings
        self._journal = journal
        self._sleep = sleep
        self._clock = clock
        self._scheduler: AsyncIOScheduler | None = None
        self._busy = False

    async def start(self) -> None:
        """Begin to watch the clock, and catch up on a sunset that was missed."""
        from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: PLC0415  slow to import
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415
        from apscheduler.triggers.interval import IntervalTrigger  # noqa: PLC0415

        scheduler = AsyncIOScheduler(
            timezone=zone(self._settings),
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE_SECONDS},
        )
        if self._settings.at:
            hour, minute = map(int, self._settings.at.split(":"))
            at = CronTrigger(hour=hour, minute=minute, timezone=zone(self._settings))
            scheduler.add_job(self.on_clock, at, id="sunset")
        if self._settings.at and self._settings.catch_up:
            # A laptop that wakes after the grace has passed is not restarted: look again now and then.
            scheduler.add_job(self.catch_up, IntervalTrigger(minutes=CATCH_UP_MINUTES), id="catch-up")
        scheduler.start()
        self._scheduler = scheduler
        await self.catch_up()

    def close(self) -> None:
        """Stop watching; a night that runs is not touched."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def next_sunset(self) -> datetime | None:
        """When the clock next starts a night, in local time; None if it never does."""
        return next_sunset(self._settings, self._clock())

    async def on_clock(self) -> NightRecord | None:
        """The clock says sunset: sleep, unless this local date has had its clock night."""
        return await self._alone(self._clock_night)

    async def catch_up(self) -> NightRecord | None:
        """Sleep now if a sunset was missed and something waits to be learned."""
        if not (self._settings.catch_up and self._settings.at):
            return None
        return await self._alone(self._missed_night)

    async def on_memory(self) -> NightRecord | None:
        """Memories were added: sleep if so many wait that capacity is reached, but not too often."""
        if not self._settings.capacity:
            return None
        return await self._alone(self._capacity_night)

    async def _alone(self, start: Callable[[], Awaitable[NightRecord | None]]) -> NightRecord | None:
        if self._busy:
            return None
        self._busy = True
        try:
            return await start()
        except Conflict as error:  # a night is under way already, which is as good
            log.info("no night started: %s", error)
        except AdaError:
            log.exception("no night could be started")
        finally:
            self._busy = False
        return None

    async def _clock_night(self) -> NightRecord | None:
        night = clock_night(self._settings, self._clock())
        if await asyncio.to_thread(self._has_night, night):
            return None
        return await self._sleep("clock")

    async def _missed_night(self) -> NightRecord | None:
        missed = last_sunset(self._settings, self._clock())
        if missed is None or not await asyncio.to_thread(self._was_missed, missed):
            return None
        return await self._sleep("clock")

    async def _capacity_night(self) -> NightRecord | None:
        if not await asyncio.to_thread(self._is_full):
            return None
        return await self._sleep("capacity")

    def _has_night(self, night: str) -> bool:
        return any(record.id == night for record in self._journal.nights(_NIGHTS_BACK))

    def _was_missed(self, sunset: datetime) -> bool:
        if not self._journal.waiting_count() or self._has_night(sunset.date().isoformat()):
            return False
        awake_since = self._journal.last_slept() or self._born()
        return awake_since is not None and awake_since < sunset.astimezone(UTC)

    def _born(self) -> datetime | None:
        """When the first interaction arrived: by its id (UUIDv7), since `at` is only the app's word."""
        first = self._journal.interactions(0, 1)
        return datetime.fromtimestamp(int(first[0].id[:12], 16) / 1000, UTC) if first else None

    def _is_full(self) -> bool:
        if self._journal.waiting_count() < self._settings.capacity:
            return False
        last, fruitless = self._capacity_nights()
        # Nights that teach nothing must not follow one another for ever: the gap doubles with each.
        gap = min(timedelta(minutes=self._settings.min_gap_minutes) * 2**fruitless, _LONGEST_GAP)
        return last is None or self._clock() - last >= gap

    def _capacity_nights(self) -> tuple[datetime | None, int]:
        """When capacity last started a night, and how many nights have taught nothing since one did."""
        nights = self._journal.nights(_NIGHTS_BACK)
        last = next((night.opened_at for night in nights if night.kind == "capacity"), None)
        fruitless = 0
        for night in nights:
            if any(s.name == "activate" and s.outcome == "done" for s in self._journal.stages(night.id)):
                break
            fruitless += 1
        return last, fruitless


def _around(settings: SunsetSettings, now: datetime) -> list[datetime]:
    """The sunsets of the days around `now`, one a local date, in UTC: only there they compare by instant.

    A time that does not exist (spring) is moved by the hour that was lost; of one that comes twice
    (autumn), the first counts.
    """
    if not settings.at:
        return []
    place, at = zone(settings), time.fromisoformat(settings.at)
    today = now.astimezone(place).date()
    days = (today + timedelta(days=offset) for offset in (-2, -1, 0, 1, 2))
    return [datetime.combine(day, at, place).astimezone(UTC) for day in days]
