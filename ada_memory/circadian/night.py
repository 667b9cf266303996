"""A night, from its opening to its report. Calls of `sleep` enter; rows, folders and events leave.

The runner walks the table of stages: light ones here, heavy ones in one child at the lowest priority. It
never holds up the loop, and at any moment may be killed: `resume()` goes on at the first unfinished stage.
It stands still when it is told to, and a light night also while somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import datetime

from ada_memory.circadian import morning, opening, pace
from ada_memory.circadian.bedroom import Bedroom
from ada_memory.circadian.bundle import (
    Emit,
    Ending,
    Halt,
    NightBundle,
    Tools,
    begin,
    dream_from,
    failure,
    finish,
    overrides_of,
    read_result,
    stage_event,
)
from ada_memory.circadian.daylight import LIGHT
from ada_memory.circadian.hours import clock_night
from ada_memory.circadian.pause import Brake, Orders, read_orders, write_orders
from ada_memory.circadian.stages import HEAVY, NAMES, STAGES, Stage, position
from ada_memory.errors import AdaError, Conflict, Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Depth, NightKind, NightRecord, StageName, StageRecord
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import read_lines
from ada_memory.sovereign.generations import Serving
from ada_memory.sovereign.manifests import ROOT

DEATHS = 3  # times the child may die in one stage before the night halts
STARTS = 20  # times a stage may be started in all, by daemons that went down with it too
LONGEST_PAUSE_SECONDS = 3600.0
WOKEN = "it was ended by hand (`ada wake`)"
_FAREWELL_SECONDS = 30.0
_NIGHTS_BACK = 30
_WAKING: frozenset[StageName] = frozenset({"activate", "report"})
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
        self._tools = Tools(home, journal, base, swap, clock, self._tell, patience, self._is_ending)
        self._bedroom = Bedroom(stages, self._heard)
        self._brake = Brake(settings.sunset.quiet_seconds, clock, self._stand)
        self._meter = pace.Meter()
        self._keeping = asyncio.Lock()
        self._kept: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._night: NightBundle | None = None
        self._stage: StageName | None = None
        self._progress: dict[str, object] | None = None
        self._pause = pause
        self._trouble: str | None = None
        self._turning = self._closing = False
        self._closed = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether a night is under way."""
        return self._task is not None and not self._task.done()

    @property
    def child(self) -> int | None:
        """The sleeper's process id; None while there is none."""
        return self._bedroom.pid

    def state(self) -> dict[str, object]:
        """What `/v1/status` says of the night: awake, asleep or waking; a held night is awake."""
        night, running = self._night, self.running
        told = self._meter.figures() if running else dict.fromkeys(pace.FIGURES)
        return {
            "state": "awake" if not running else "waking" if self._stage in _WAKING else "asleep",
            "night": night.night if night else None,
            "depth": night.depth if night else None,
            "stage": self._stage if running else None,
            "progress": self._progress if running else None,
            "held": night.until if night and not running else None,
            "paused": self._brake.why if running else None,
            "paused_since": self._brake.since if running else None,
            "trouble": self._trouble if running else None,
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
        if self._closing:
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
            if record is None or self.running or self._closing:
                return None
            try:
                night = await asyncio.to_thread(self._bundle, record, None)
            except AdaError:  # the daemon must start all the same: it is what can mend it
                log.exception("night %s cannot go on", record.id)
                return None
            orders = await asyncio.to_thread(read_orders, night.folder)
            if not orders.woken and await asyncio.to_thread(opening.is_held, night):
                self._night = night
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
            if not self.running and not self._closing:
                record = await asyncio.to_thread(self._journal.unfinished_night)
                if record is None:
                    raise Conflict("no night is under way", hint="`ada status` says how Ada is")
                night = await asyncio.to_thread(self._bundle, record, None)
                self._start(night, await asyncio.to_thread(read_orders, night.folder))
            night = self._under_way()
            self._brake.wake()
            self._bedroom.rouse()
            return await self._obeyed(night)

    async def wait(self) -> None:
        """Return once no night is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End the child and the night's task; the night goes on at the next `resume`."""
        self._closing = True
        self._closed.set()
        self._brake.close()
        self._bedroom.close()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=_FAREWELL_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.gather(*self._kept, return_exceptions=True)

    def _under_way(self) -> NightBundle:
        if not self.running or self._night is None:
            raise Conflict("no night is under way", hint="`ada sleep` starts one")
        if self._closing:
            raise Unavailable("Ada is being stopped", hint="start her again with `ada run`")
        if self._turning:
            raise Conflict(f"night {self._night.night} is at its end", hint="it is over in a moment")
        return self._night

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
        self._bedroom.hold(still)
        (self._meter.hold if still else self._meter.go_on)()
        if self._night is None:
            return
        state = {"state": "paused", "why": self._brake.why} if still else {"state": "resumed"}
        self._tell({"event": "pause", "night": self._night.night, **state})
        task = asyncio.get_running_loop().create_task(self._keep_or_say(self._night, self._brake.orders))
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _is_ending(self) -> bool:
        """Whether what a stage waits for is not worth the wait any more."""
        return self._closing or self._brake.orders.woken

    def _start(self, night: NightBundle, orders: Orders) -> None:
        self._night, self._stage, self._progress, self._turning = night, None, None, False
        self._brake.begin(orders, light=night.depth == "light")
        self._task = asyncio.create_task(self._run(night), name=f"night {night.night}")

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
        self._tell({"event": "night", "state": "opened", **what})
        return record

    def _bundle(self, record: NightRecord, until: StageName | None) -> NightBundle:
        return opening.bundle(self._home, self._settings, self._base, record, until)

    def _earlier(self, night: NightBundle) -> list[pace.Took]:
        """What nights like this one took."""
        before = (other.id for other in self._journal.nights(_NIGHTS_BACK) if other.id != night.night)
        reports = (morning.read(self._home.nights / name) for name in before)
        return pace.alike((report for report in reports if report), night.depth, night.base_hash)

    async def _run(self, night: NightBundle) -> None:
        """Walk the table; what cannot be written (a full disk) is tried again, later and later."""
        asleep = {"state": "asleep", "night": night.night, "depth": night.depth, "until": night.until}
        self._tell({"event": "night", **asleep})
        self._meter.begin(await asyncio.to_thread(self._earlier, night), night.until)
        pause = self._pause
        while not self._closing:
            try:
                await self._walk(night)
                return
            except Exception as error:  # the daemon's tick: logged, and tried again
                log.exception("night %s cannot go on, again in %.0f s", night.night, pause)
                self._trouble, self._turning = str(error), False
                stopped = {"state": "stopped", "night": night.night, "reason": self._trouble}
                self._tell({"event": "night", **stopped, "again_in": pause})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause)
            pause, self._trouble = min(pause * 2, LONGEST_PAUSE_SECONDS), None

    async def _walk(self, night: NightBundle) -> None:
        """From the first unfinished stage on. One that does not end well is followed by the report alone."""
        ended_early = False
        for stage in STAGES:
            record = await asyncio.to_thread(read_result, night, stage.name)
            if record is None and ended_early and stage.name != "report":
                continue
            beyond = position(stage.name) > position(night.until)
            if record is None and beyond and not (ended_early or self._brake.orders.woken):
                self._brake.end()
                held: dict[str, object] = {"state": "held", "night": night.night, "until": night.until}
                self._tell({"event": "night", **held})
                return
            record = record or await self._stage_run(stage, night)
            if record is None:
                return  # closing
            await self._commit(night, record)
            ended_early = ended_early or record.outcome != "done"
            if stage.name == "gather":
                self._meter.gathered(pace.gathered(record.figures))
            if stage.name == "report":
                self._night = None
                self._brake.end()
                self._tell({"event": "night", "state": "done", "night": night.night, **record.figures})

    async def _stage_run(self, stage: Stage, night: NightBundle) -> StageRecord | None:
        """Run one stage to its end; None if the daemon is closing."""
        if self._closing:
            return None
        if stage.heavy:
            return await self._in_child(stage.name, night)
        self._enter(stage.name)
        await self._brake.free()
        if self._closing:
            return None
        started_at = self._clock()
        self._turning = stage.name in _WAKING
        if self._brake.orders.woken and stage.name != "report":
            return await asyncio.to_thread(finish, night, stage.name, Halt(WOKEN), started_at, started_at)
        self._meter.again()
        self._tell(stage_event(night.night, stage.name, "started") | self._meter.figures())
        await asyncio.to_thread(begin, night, stage.name)
        ending = await self._light(stage.name, night)
        if self._closing and (stage.name == "gather" or isinstance(ending, Halt)):
            return None  # what it lacked may be there when it is run again
        return await asyncio.to_thread(finish, night, stage.name, ending, started_at, self._clock())

    async def _light(self, name: StageName, night: NightBundle) -> Ending:
        try:
            return await LIGHT[name](night, self._tools)
        except Exception as error:  # noqa: BLE001  the stage runner: whatever a stage raises halts the night
            return failure(name, error)

    async def _in_child(self, name: StageName, night: NightBundle) -> StageRecord | None:
        """Run the sleeper until this stage has ended; it goes on with the heavy stages that follow."""
        for death in range(1, DEATHS + 1):
            self._enter(name)
            await self._brake.free()
            if self._closing:
                return None
            self._meter.again()
            started_at, reason = self._clock(), WOKEN
            if self._brake.orders.woken:
                break
            if await asyncio.to_thread(opening.starts, night, name) > STARTS:
                # A stage that takes the whole daemon down with it (memory) would do so for ever.
                reason = f"{name} was started {STARTS} times and never came to its end; sleeper.log says more"
                break
            status = await self._bedroom.sleep(night)
            record = await asyncio.to_thread(read_result, night, name)
            if record is not None or self._closing:
                return record
            if self._brake.orders.woken:
                break
            log.warning("the sleeper ended with status %s in %s (%d of %d)", status, name, death, DEATHS)
            reason = f"the sleeper died {death} times in {name} (status {status}); sleeper.log says more"
        return await asyncio.to_thread(finish, night, name, Halt(reason), started_at, self._clock())

    async def _heard(self, night: NightBundle, event: dict[str, object]) -> None:
        """An event of the child. A finished stage gets its row before anybody hears of it."""
        if event.get("event") == "progress":
            self._progress = {"done": event.get("done"), "total": event.get("total")}
            self._meter.take(event.get("done"), event.get("total"))
            event = event | self._meter.figures()
        if event.get("event") == "stage" and event.get("stage") in NAMES:
            name = NAMES[position(str(event["stage"]))]
            self._enter(name)
            record = await asyncio.to_thread(read_result, night, name)
            if event.get("state") == "finished" and record is not None:
                await self._commit(night, record)
                return
            event = event | self._meter.figures()
        self._tell(event)

    async def _commit(self, night: NightBundle, record: StageRecord) -> None:
        """Give a finished folder its rows, once; dreams before the stage, so that none is missed."""
        rows = await asyncio.to_thread(self._journal.stages, night.night)
        if any(row.name == record.name for row in rows):
            return
        if record.name == "verify":
            dreams = [dream_from(row) for row in read_lines(night.done("verify") / "dreams.jsonl")]
            overrides = overrides_of(night)
            await asyncio.wrap_future(
                self._journal.record_dreams(night.night, ROOT, dreams, overrides)
            )
        await asyncio.wrap_future(self._journal.record_stage(record))
        worked = {"seconds": self._meter.seconds} if record.name == self._stage else {}
        self._tell(stage_event(night.night, record.name, "finished", record) | worked)

    def _enter(self, stage: StageName) -> None:
        self._meter.enter(stage)
        if stage != self._stage:
            self._stage, self._progress = stage, None

    def _tell(self, event: dict[str, object]) -> None:
        self._emit(event)

