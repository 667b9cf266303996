"""The bell: APScheduler, asked for one thing only. A coroutine enters and is run on every full minute.

The scheduler waits by the wall clock, so a clock that is set back would keep it waiting until the old time
comes again, and one that is set forth would have it count every minute in between. Neither happens here: the
next minute is always counted from now, and a second look, by a clock that nobody can set, sees to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

MINUTE = timedelta(minutes=1)


class EveryMinute(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Fires on every full minute after now; minutes that passed unseen are not made up for."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002
        """The first full minute after `now`."""
        return now.replace(second=0, microsecond=0) + MINUTE


class Bell:
    """Rings from `start()`, on a running loop, to `close()`; never while the last ring still lasts."""

    def __init__(self, ring: Callable[[], Awaitable[object]], recheck_seconds: float = 60.0) -> None:
        """`recheck_seconds`: how often the next ring is held against the clock, by one that cannot be set."""
        self._recheck_seconds = recheck_seconds
        self._again: asyncio.TimerHandle | None = None
        # UTC has no hour that comes twice: what a local hour means is not the scheduler's to decide.
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._job = self._scheduler.add_job(
            ring, EveryMinute(), id="look", coalesce=True, max_instances=1, misfire_grace_time=None
        )

    def start(self) -> None:
        """Begin to ring."""
        self._scheduler.start()
        self._recheck()

    def close(self) -> None:
        """Ring no more; a second call does nothing."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
            self._scheduler.shutdown(wait=False)

    def _recheck(self) -> None:
        now = datetime.now(UTC)
        if self._job.next_run_time > now + MINUTE:  # the clock was set back
            self._job.modify(next_run_time=self._job.trigger.get_next_fire_time(None, now))
        self._scheduler.wakeup()
        self._again = asyncio.get_running_loop().call_later(self._recheck_seconds, self._recheck)
