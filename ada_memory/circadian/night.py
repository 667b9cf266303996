"""Nights as they are asked for. Calls of `sleep`, `pause` and `wake` enter; a walk follows.

It never holds up the loop, and at any moment may be killed: `resume()` goes on at the first unfinished stage.
A night stands still when it is told to, and a light night also while somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import datetime

from ada_memory.circadian import opening, pace
from ada_memory.circadian.bundle import Emit, NightBundle, Tools
from ada_memory.circadian.hours import clock_night
from ada_memory.circadian.pause import Brake, Orders, read_orders, write_orders
from ada_memory.circadian.stages import HEAVY, NAMES, position
from ada_memory.circadian.walk import Walk
from ada_memory.errors import AdaError, Conflict, Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Depth, NightKind, NightRecord, StageName
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.generations import Serving

_FAREWELL_SECONDS = 30.0
log = logging.getLogger(__name__)


class NightRunner:
    """Runs one night at a time: `resume()` at the start of the daemon, `close()` at its end."""

    def __init__(  # noqa: PLR0913  what it wires has no smaller shape
        self,
        home: Home,
        settings: Settings,
        journal: Journal,
        base: Base,
        emit: Emit,
        swap: Callable[[Serving], Awaitable[None]],
        clock: Callable[[], datetime],
        *,
        stages: str = HEAVY,
        patience: float = 60.0,
        pause: float = 60.0,
    ) -> None:
        """`stages` is the module (or file) of the heavy stages, `patience` how many seconds gather waits,
        `pause` how many before what could not be written is first tried again.
        """
        self._home, self._settings, self._journal, self._base = home, settings, journal, base
        self._emit, self._clock = emit, clock
        self._brake = Brake(settings.sunset.quiet_seconds, clock, self._stand)
        tools = Tools(home, journal, base, swap, clock, emit, patience, self._is_ending)
        self._walk = Walk(tools, self._brake, stages, pause)
        self._keeping = asyncio.Lock()
        self._kept: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether a night is under way."""
        return self._task is not None and not self._task.done()

    @property
    def child(self) -> int | None:
        """The sleeper's process id; None while there is none."""
        return self._walk.bedroom.pid

    def state(self) -> dict[str, object]:
        """What `/v1/status` says of the night: awake, asleep or waking; a held night is awake."""
        walk, night, running = self._walk, self._walk.night, self.running
        told = walk.meter.figures() if running else dict.fromkeys(pace.FIGURES)
        return {
            "state": "awake" if not running else "waking" if walk.waking else "asleep",
            "night": night.night if night else None,
            "depth": night.depth if night else None,
            "stage": walk.stage if running else None,
            "progress": walk.progress if running else None,
            "held": night.until if night and not running else None,
            "paused": self._brake.why if running else None,
            "paused_since": self._brake.since if running else None,
            "trouble": walk.trouble if running else None,
            **told,
        }

    async def sleep(
        self, kind: NightKind, until: StageName | None = None, depth: Depth | None = None
    ) -> NightRecord:
        """Open a night, or go on with one that is held, and run it in the background up to `until`.

        Without `depth`, capacity's nights are as deep as `sunset.capacity_depth` says, all others deep.

        Raises:
            Conflict: a night is under way, the clock night of this date is over, or one is held by hand
                and only capacity asks, or somebody who asks for another depth.
            BadInput: there is no such stage.
            Unavailable: the daemon is stopping, or the night's folder cannot be written.
        """
        last = NAMES[position(until or NAMES[-1])]
        if self._walk.closing:
            raise Unavailable("Ada is being stopped", hint="start her again with `ada run`")
        if self.running or self._opening.locked():
            raise Conflict("a night is under way already", hint="`ada status` shows how far it is")
        async with self._opening:
            record = await asyncio.to_thread(self._journal.unfinished_night)
            if record is None:
                usual = self._settings.sunset.capacity_depth if kind == "capacity" else "deep"
                record = await self._open(kind, depth or usual)
            elif kind == "capacity" or depth not in (None, record.depth):
                held = f"night {record.id} is held, a {record.depth} one"
                raise Conflict(held, hint="`ada sleep` finishes it, `ada wake` ends it")
            try:
                night = await asyncio.to_thread(self._bundle, record, last)
                orders = await asyncio.to_thread(read_orders, night.folder)
                orders.paused = False  # who says sleep wants it to go on
                self._start(night, orders)
            except OSError as error:
                raise Unavailable(
                    f"night {record.id} cannot be written: {error}",
                    hint="make room on the disk; `ada sleep` then goes on with it",
                ) from error
        return record

    async def resume(self) -> NightRecord | None:
        """Go on with the night that a stopped daemon left; None if there is none or it is held."""
        async with self._opening:
            record = await asyncio.to_thread(self._journal.unfinished_night)
            if record is None or self.running or self._walk.closing:
                return None
            try:
                night = await asyncio.to_thread(self._bundle, record, None)
            except AdaError:  # the daemon must start all the same: it is what can mend it
                log.exception("night %s cannot go on", record.id)
                return None
            orders = await asyncio.to_thread(read_orders, night.folder)
            if not orders.woken and await asyncio.to_thread(opening.is_held, night):
                self._walk.night = night
                return None
            self._start(night, orders)
        return record

    def asked(self) -> AbstractContextManager[None]:
        """While somebody asks, and `sunset.quiet_seconds` longer, a light night stands still."""
        return self._brake.asked()

    async def pause(self) -> str:
        """Stop the night that is under way where it is, until `go_on`; returns its id.

        Raises:
            Conflict: no night is under way, or it is at its end.
            Unavailable: it stands still, but that cannot be written, so a new daemon would go on with it.
        """
        night = self._under_way()
        self._brake.pause()
        return await self._obeyed(night)

    async def go_on(self) -> str:
        """Let the night go on, whatever it stands still for; returns its id.

        Raises:
            Conflict: no night is under way, or it is at its end.
            Unavailable: it goes on, but that cannot be written, so a new daemon would hold it.
        """
        night = self._under_way()
        self._brake.go_on()
        return await self._obeyed(night)

    async def wake(self) -> str:
        """End the night that is under way or held, cleanly: it halts, and its memories wait. Returns its id.

        Raises:
            Conflict: there is none, or it is at its end.
            Unavailable: the order cannot be written, or the daemon is stopping.
        """
        async with self._opening:
            if not self.running and not self._walk.closing:
                record = await asyncio.to_thread(self._journal.unfinished_night)
                if record is None:
                    raise Conflict("no night is under way", hint="`ada status` says how Ada is")
                night = await asyncio.to_thread(self._bundle, record, None)
                self._start(night, await asyncio.to_thread(read_orders, night.folder))
            night = self._under_way()
            self._brake.wake()
            self._walk.bedroom.rouse()
            return await self._obeyed(night)

    async def wait(self) -> None:
        """Return once no night is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End the child and the night's task; the night goes on at the next `resume`."""
        self._walk.close()
        self._brake.close()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=_FAREWELL_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.gather(*self._kept, return_exceptions=True)

    def _under_way(self) -> NightBundle:
        night = self._walk.night
        if not self.running or night is None:
            raise Conflict("no night is under way", hint="`ada sleep` starts one")
        if self._walk.closing:
            raise Unavailable("Ada is being stopped", hint="start her again with `ada run`")
        if self._walk.turning:
            raise Conflict(f"night {night.night} is at its end", hint="it is over in a moment")
        return night

    async def _obeyed(self, night: NightBundle) -> str:
        """Put the orders on disk; returns the night's id."""
        try:
            await self._keep(night, self._brake.orders)
        except OSError as error:
            hint = "make room on the disk, then say it again"
            raise Unavailable(f"what was asked of the night cannot be written: {error}", hint=hint) from error
        return night.night

    async def _keep(self, night: NightBundle, orders: Orders) -> None:
        async with self._keeping:
            await asyncio.to_thread(write_orders, night.folder, orders)

    async def _keep_or_say(self, night: NightBundle, orders: Orders) -> None:
        try:
            await self._keep(night, orders)
        except OSError as error:  # the night itself will say that it cannot write
            log.warning("the pauses of night %s cannot be written: %s", night.night, error)

    def _stand(self, still: bool) -> None:
        """The night stops, or goes on."""
        self._walk.hold(still)
        night = self._walk.night
        if night is None:
            return
        state = {"state": "paused", "why": self._brake.why} if still else {"state": "resumed"}
        self._emit({"event": "pause", "night": night.night, **state})
        task = asyncio.get_running_loop().create_task(self._keep_or_say(night, self._brake.orders))
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _is_ending(self) -> bool:
        """Whether what a stage waits for is not worth the wait any more."""
        return self._walk.closing or self._brake.orders.woken

    def _start(self, night: NightBundle, orders: Orders) -> None:
        self._walk.begin(night)
        self._brake.begin(orders, light=night.depth == "light")
        self._task = asyncio.create_task(self._walk.run(night), name=f"night {night.night}")

    async def _open(self, kind: NightKind, depth: Depth) -> NightRecord:
        now = self._clock()
        upto = await asyncio.to_thread(self._journal.position)
        taken = {night.id for night in await asyncio.to_thread(self._journal.nights, 1_000_000)}
        name = clock_night(self._settings.sunset, now) if kind == "clock" else opening.free(f"p{upto}", taken)
        if name in taken:
            raise Conflict(f"the clock night {name} is over", hint="`ada sleep` starts another by hand")
        parent = await asyncio.to_thread(generations.active, self._home)
        # Raises now if the parent is damaged: no night can grow from it.
        await asyncio.to_thread(generations.serving, self._home, self._base, parent)
        seed = opening.seed_of(self._settings.mind.id, name)
        record = NightRecord(name, kind, now, upto, parent, seed, depth)
        record = await asyncio.wrap_future(self._journal.open_night(record))
        what: dict[str, object] = {"night": record.id, "kind": kind, "depth": record.depth, "upto": upto}
        self._emit({"event": "night", "state": "opened", **what})
        return record

    def _bundle(self, record: NightRecord, until: StageName | None) -> NightBundle:
        return opening.bundle(self._home, self._settings, self._base, record, until)
