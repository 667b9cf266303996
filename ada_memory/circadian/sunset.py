"""What starts a night. The clock and the counter enter; calls of `sleep(kind)` leave.

Sunset looks once a minute. What it does follows from settings, journal and clock alone, so a look that
nobody took (a laptop that slept), or that could not start a night, is made up for by the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ada_memory.circadian.hours import Hour, last_hour, next_sunset, reread_local_zone, zone
from ada_memory.errors import AdaError, Conflict, NotFound, Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import NightKind, NightRecord
from ada_memory.settings import SunsetSettings

if TYPE_CHECKING:
    from ada_memory.circadian.bell import Bell

Sleep = Callable[[NightKind], Awaitable[NightRecord]]
HOLE = timedelta(minutes=10)
"""Looks further apart than this: the machine slept, or its clock was set."""

_LONGEST_GAP = timedelta(days=1)
_NIGHTS_BACK = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the next night waits for."""

    next_sunset: datetime | None
    """When the clock next starts a night, in local time; None if it never does."""
    waiting: int
    """Memories that count towards capacity."""
    capacity: int
    """With so many a night starts; 0 if capacity starts none."""
    gap_until: datetime | None
    """Until then capacity starts no night, in UTC, since one was not long ago; None if it may."""
    last_refusal: tuple[datetime, str] | None
    """Since when, in UTC, and why there is no night although the clock or capacity called for one."""


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
        self._bell: Bell | None = None
        self._looking = asyncio.Lock()
        self._looked: datetime | None = None
        self._awake_since = datetime.max.replace(tzinfo=UTC)
        self._over = ""  # the clock night that is known to be in the journal
        self._tried = ""  # the clock night that was asked for on time and could not be started then
        self._why = ""  # why a look started no night although one was due
        self._refusal: tuple[datetime, str] | None = None

    async def start(self) -> None:
        """Begin to watch the clock, and catch up on a sunset that was missed."""
        from ada_memory.circadian.bell import Bell  # noqa: PLC0415  APScheduler is slow to import

        await self.look()
        self._bell = Bell(self.look)
        self._bell.start()

    def close(self) -> None:
        """Stop watching; a night that runs is not touched."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def next_sunset(self) -> datetime | None:
        """When the clock next starts a night, in local time; None if it never does."""
        return next_sunset(self._settings, self._clock())

    def outlook(self) -> Outlook:
        """What the next night waits for. Reads the journal: not for the loop's own thread."""
        now = self._clock()
        return Outlook(
            next_sunset=next_sunset(self._settings, now),
            waiting=self._journal.waiting_count(),
            capacity=self._settings.capacity,
            gap_until=self._gap_until(now) if self._settings.capacity else None,
            last_refusal=self._refusal,
        )

    async def look(self) -> NightRecord | None:
        """Start the night that is due, if one is: the clock's first, else capacity's."""
        async with self._looking:
            now = self._clock()
            self._watch(now)
            self._why = ""
            night = await self._guarded(self._clock_night, now)
            night = night or await self._guarded(self._capacity_night, now)
            self._remember(now)
        return night

    async def on_memory(self) -> NightRecord | None:
        """Memories were added: sleep if so many wait that capacity is reached, but not too often."""
        if self._looking.locked():
            return None  # who looks now, or in a minute, sees them too
        async with self._looking:
            now, self._why = self._clock(), ""
            night = await self._guarded(self._capacity_night, now)
            if night is not None or self._why:
                self._remember(now)
        return night

    def _watch(self, now: datetime) -> None:
        """Note since when the clock has been watched without a hole: what came before was missed."""
        if self._looked is None or abs(now - self._looked) > HOLE:
            self._awake_since = now
        self._looked = now
        if self._settings.at and not self._settings.timezone:
            reread_local_zone()

    async def _guarded(
        self, start: Callable[[datetime], Awaitable[NightRecord | None]], now: datetime
    ) -> NightRecord | None:
        try:
            return await start(now)
        except (Conflict, Unavailable) as error:  # she sleeps already, or is being stopped
            self._why = error.message
        except (AdaError, OSError) as error:  # the day goes on, and the next look tries again
            self._why = str(error)
            if self._refusal is None or self._refusal[1] != self._why:
                log.exception("no night could be started")
        return None

    def _remember(self, now: datetime) -> None:
        """Keep why no night was started, with the time since when; say it once."""
        if not self._why:
            self._refusal = None
        elif self._refusal is None or self._refusal[1] != self._why:
            self._refusal = (now, self._why)
            log.info("no night started: %s", self._why)

    async def _clock_night(self, now: datetime) -> NightRecord | None:
        hour = last_hour(self._settings, now)
        if hour is None or hour.night == self._over:
            return None
        if not await asyncio.to_thread(self._is_due, hour, now):
            return None
        if hour.at >= self._awake_since:
            self._tried = hour.night
        night = await self._sleep("clock")
        if night.id == hour.night:
            self._over = hour.night
        return night

    async def _capacity_night(self, now: datetime) -> NightRecord | None:
        if not self._settings.capacity or not await asyncio.to_thread(self._is_full, now):
            return None
        return await self._sleep("capacity")

    def _is_due(self, hour: Hour, now: datetime) -> bool:
        """Whether the latest sunset asks for its night."""
        held, met = self._held(hour.night), hour.at >= self._awake_since
        if held is not None:
            if met and not hour.at <= held.opened_at <= now:
                return self._refuse(f"{hour.night} has had its night: the clock or the time zone was changed")
            self._over = hour.night
            return False
        if not met:
            return self._was_missed(hour, now)
        if self._tried != hour.night or self._waits_for(hour, now, 0):
            return True  # on time also if nothing waits, later only if something does
        return self._refuse(
            f"night {hour.night} could not start at its sunset, and nothing waits from before it"
        )

    def _was_missed(self, hour: Hour, now: datetime) -> bool:
        """Whether a sunset that nobody watched is to be caught up."""
        born = self._arrival(0)
        if born is None or hour.at <= born <= now + HOLE:
            return False  # nobody was there to miss it
        missed = f"the sunset of {hour.night} was missed, and"
        if not self._settings.catch_up:
            return self._refuse(f"{missed} sunset.catch_up is off")
        waits = self._waits_for(hour, now, self._slept_upto(hour, now))
        return waits or self._refuse(f"{missed} nothing waits from before it")

    def _held(self, night: str) -> NightRecord | None:
        try:
            return self._journal.night(night)
        except NotFound:
            return None

    def _slept_upto(self, hour: Hour, now: datetime) -> int:
        """How far the nights that ended since this sunset have read: what they read was not missed."""
        upto = 0
        for night in self._journal.nights(_NIGHTS_BACK):
            ended = [s.finished_at for s in self._journal.stages(night.id) if s.name == "report"]
            if ended and hour.at <= ended[0] <= now:
                upto = max(upto, night.upto)
        return upto

    def _waits_for(self, hour: Hour, now: datetime, after: int) -> bool:
        """Whether something waits, beyond position `after`, that was there at this sunset."""
        if not self._journal.waiting_count():
            return False
        dealt_with = self._journal.settlements()
        waiting = (m.interactions[0] for m in self._journal.waiting() if m.id not in dealt_with)
        first = min((position for position in waiting if position > after), default=None)
        if first is None:
            return False
        arrived = self._arrival(first - 1)
        # One of the future was there while the clock was ahead. When it came is not known, and to let it
        # wait for ever is worse than a night too many.
        return arrived is not None and not hour.at <= arrived <= now + HOLE

    def _arrival(self, after: int) -> datetime | None:
        """When the first interaction beyond a position came: by its id (UUIDv7), `at` is the app's word."""
        first = self._journal.interactions(after, 1)
        return datetime.fromtimestamp(int(first[0].id[:12], 16) / 1000, UTC) if first else None

    def _is_full(self, now: datetime) -> bool:
        return self._journal.waiting_count() >= self._settings.capacity and self._gap_until(now) is None

    def _gap_until(self, now: datetime) -> datetime | None:
        """Until when capacity starts no night; None if it may.

        Nights that teach nothing must not follow one another for ever: the gap doubles with each.
        """
        nights = self._journal.nights(_NIGHTS_BACK)
        last = next((night.opened_at for night in nights if night.kind == "capacity"), None)
        fruitless = 0
        for night in nights:
            if any(s.name == "activate" and s.outcome == "done" for s in self._journal.stages(night.id)):
                break
            fruitless += 1
        gap = min(timedelta(minutes=self._settings.min_gap_minutes) * 2**fruitless, _LONGEST_GAP)
        # By its distance: a night far in the future was recorded while the clock was ahead.
        return last + gap if last is not None and abs(now - last) < gap else None

    def _refuse(self, why: str) -> bool:
        self._why = why
        return False
