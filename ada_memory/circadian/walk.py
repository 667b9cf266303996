"""The way of a night through the table of its stages. A bundle enters; rows, folders and events leave.

Light stages are run here, heavy ones in one child at the lowest priority. A stage's folder is whole before it
gets its row. A walk never holds up the loop, and begun anew it goes on at the first unfinished stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from dataclasses import replace

from ada_memory.circadian import morning, opening, pace
from ada_memory.circadian.bedroom import Bedroom
from ada_memory.circadian.bundle import (
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
from ada_memory.circadian.pause import Brake
from ada_memory.circadian.stages import NAMES, STAGES, Stage, position
from ada_memory.records import Dream, Override, StageName, StageRecord
from ada_memory.sovereign.disk import read_lines
from ada_memory.sovereign.manifests import ROOT

DEATHS = 3  # times the child may die in one stage before the night halts
STARTS = 20  # times a stage may be started in all, by daemons that went down with it too
LONGEST_PAUSE_SECONDS = 3600.0
WOKEN = "it was ended by hand (`ada wake`)"
_NIGHTS_BACK = 30
_WAKING: frozenset[StageName] = frozenset({"activate", "report"})
log = logging.getLogger(__name__)


class Walk:
    """Walks one night at a time, and knows where it is. `night` is None once its report is written."""

    def __init__(self, tools: Tools, brake: Brake, stages: str, pause: float) -> None:
        """`stages` is the module (or file) of the heavy stages; `pause` seconds after it failed to write, it
        first tries again.
        """
        self._tools, self._brake, self._pause = tools, brake, pause
        self._closed = asyncio.Event()
        self._deaths: Counter[StageName] = Counter()
        self.bedroom = Bedroom(stages, self._heard)
        self.meter = pace.Meter()
        self.night: NightBundle | None = None
        self.stage: StageName | None = None
        self.progress: dict[str, object] | None = None
        self.trouble: str | None = None
        self.turning = False
        """Whether the night is at its end: it can neither be paused nor ended any more."""

    @property
    def closing(self) -> bool:
        """Whether the daemon is being stopped."""
        return self._closed.is_set()

    @property
    def waking(self) -> bool:
        """Whether the night is in one of its last stages."""
        return self.stage in _WAKING

    def begin(self, night: NightBundle) -> None:
        """Stand before the night's first stage."""
        self.night, self.stage, self.progress, self.turning = night, None, None, False
        self._deaths.clear()

    def hold(self, still: bool) -> None:
        """Let child and watch stand still, or go on."""
        self.bedroom.hold(still)
        (self.meter.hold if still else self.meter.go_on)()

    def close(self) -> None:
        """End the child; the walk returns as soon as it can."""
        self._closed.set()
        self.bedroom.close()

    def _earlier(self, night: NightBundle) -> list[pace.Took]:
        """What nights like this one took."""
        before = (other.id for other in self._tools.journal.nights(_NIGHTS_BACK) if other.id != night.night)
        reports = (morning.read(self._tools.home.nights / name) for name in before)
        return pace.alike((report for report in reports if report), night.depth, night.base_hash)

    async def run(self, night: NightBundle) -> None:
        """Walk the table; what cannot be written (a full disk) is tried again, later and later."""
        asleep = {"state": "asleep", "night": night.night, "depth": night.depth, "until": night.until}
        self._tools.emit({"event": "night", **asleep})
        self.meter.begin(await asyncio.to_thread(self._earlier, night), night.until)
        pause = self._pause
        while not self.closing:
            try:
                await self._walk(night)
                return
            except Exception as error:  # the daemon's tick: logged, and tried again
                log.exception("night %s cannot go on, again in %.0f s", night.night, pause)
                self.trouble, self.turning = str(error), False
                stopped = {"state": "stopped", "night": night.night, "reason": self.trouble}
                self._tools.emit({"event": "night", **stopped, "again_in": pause})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause)
            pause, self.trouble = min(pause * 2, LONGEST_PAUSE_SECONDS), None

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
                self._tools.emit({"event": "night", **held})
                return
            record = record or await self._stage_run(stage, night)
            if record is None:
                return  # closing
            await self._commit(night, record)
            ended_early = ended_early or record.outcome != "done"
            if stage.name == "gather":
                self.meter.gathered(pace.gathered(record.figures))
            if stage.name == "report":
                self.night = None
                self._brake.end()
                self._tools.emit({"event": "night", "state": "done", "night": night.night, **record.figures})

    async def _stage_run(self, stage: Stage, night: NightBundle) -> StageRecord | None:
        """Run one stage to its end; None if the daemon is closing."""
        if self.closing:
            return None
        if stage.heavy:
            return await self._in_child(stage.name, night)
        self._enter(stage.name)
        await self._brake.free()
        if self.closing:
            return None
        started_at = self._tools.clock()
        self.turning = stage.name in _WAKING
        if self._brake.orders.woken and stage.name != "report":
            return await asyncio.to_thread(finish, night, stage.name, Halt(WOKEN), started_at, started_at)
        self.meter.again()
        self._tools.emit(stage_event(night.night, stage.name, "started") | self.meter.figures())
        await asyncio.to_thread(begin, night, stage.name)
        ending = await self._light(stage.name, night)
        if self.closing and (stage.name == "gather" or isinstance(ending, Halt)):
            return None  # what it lacked may be there when it is run again
        return await asyncio.to_thread(finish, night, stage.name, ending, started_at, self._tools.clock())

    async def _light(self, name: StageName, night: NightBundle) -> Ending:
        try:
            return await LIGHT[name](night, self._tools)
        except Exception as error:  # noqa: BLE001  the stage runner: whatever a stage raises halts the night
            return failure(name, error)

    async def _in_child(self, name: StageName, night: NightBundle) -> StageRecord | None:
        """Run the sleeper until this stage has ended; it goes on with the heavy stages that follow."""
        while True:
            self._enter(name)
            await self._brake.free()
            if self.closing:
                return None
            self.meter.again()
            started_at, reason = self._tools.clock(), WOKEN
            starts = await asyncio.to_thread(opening.starts, night, name)
            if self._brake.orders.woken:
                break
            if starts > STARTS:
                # A stage that takes the whole daemon down with it (memory) would do so for ever.
                reason = f"{name} was started {STARTS} times and never came to its end; sleeper.log says more"
                break
            status = await self.bedroom.sleep(replace(night, died=self._deaths[name]))
            record = await asyncio.to_thread(read_result, night, name)
            if status or record is None:
                self._deaths[name if record is None else self.stage or name] += 1
            if record is not None or self.closing:
                return record
            if self._brake.orders.woken:
                break
            died = self._deaths[name]
            log.warning("the sleeper ended with status %s in %s (%d of %d)", status, name, died, DEATHS)
            if died == DEATHS:
                reason = f"the sleeper died {died} times in {name} (status {status}); sleeper.log says more"
                break
        return await asyncio.to_thread(finish, night, name, Halt(reason), started_at, self._tools.clock())

    async def _heard(self, night: NightBundle, event: dict[str, object]) -> None:
        """An event of the child. A finished stage gets its row before anybody hears of it."""
        if event.get("event") == "progress":
            self.progress = {name: event.get(name) for name in ("done", "total", "note")}
            self.meter.take(event.get("done"), event.get("total"))
            event = event | self.meter.figures()
        if event.get("event") == "stage" and event.get("stage") in NAMES:
            name = NAMES[position(str(event["stage"]))]
            self._enter(name)
            record = await asyncio.to_thread(read_result, night, name)
            if event.get("state") == "finished" and record is not None:
                await self._commit(night, record)
                return
            event = event | self.meter.figures()
        self._tools.emit(event)

    async def _commit(self, night: NightBundle, record: StageRecord) -> None:
        """Give a finished folder its rows, once; dreams before the stage, so that none is missed."""
        rows = await asyncio.to_thread(self._tools.journal.stages, night.night)
        if any(row.name == record.name for row in rows):
            return
        if record.name == "verify":
            dreams, overrides = await asyncio.to_thread(_dreamt, night)
            await asyncio.wrap_future(
                self._tools.journal.record_dreams(night.night, ROOT, dreams, overrides)
            )
        await asyncio.wrap_future(self._tools.journal.record_stage(record))
        worked = {"seconds": self.meter.seconds} if record.name == self.stage else {}
        self._tools.emit(stage_event(night.night, record.name, "finished", record) | worked)

    def _enter(self, stage: StageName) -> None:
        self.meter.enter(stage)
        if stage != self.stage:
            self.stage, self.progress = stage, None


def _dreamt(night: NightBundle) -> tuple[list[Dream], list[Override]]:
    """What a finished stage `verify` has for the journal."""
    rows = read_lines(night.done("verify") / "dreams.jsonl")
    return [dream_from(row) for row in rows], overrides_of(night)
