"""A night, from its opening to its report. Calls of `sleep` enter; rows, folders and events leave.

The runner walks the table of stages: light ones here, heavy ones in one child at the lowest priority. It
never holds up the loop, and at any moment may be killed: `resume()` goes on at the first unfinished stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

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
    read_bundle,
    read_result,
    stage_event,
    write_bundle,
)
from ada_memory.circadian.daylight import LIGHT
from ada_memory.circadian.hours import clock_night
from ada_memory.circadian.stages import HEAVY, NAMES, STAGES, Stage, position
from ada_memory.errors import AdaError, BadInput, Conflict, Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import NightKind, NightRecord, StageName, StageRecord
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import append_line, read_lines
from ada_memory.sovereign.generations import Serving

DEATHS = 3  # times the child may die in one stage before the night halts
STARTS = 20  # times a stage may be started in all, by daemons that went down with it too
LONGEST_PAUSE_SECONDS = 3600.0
_FAREWELL_SECONDS = 30.0
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
        self._tools = Tools(home, journal, base, swap, clock, self._tell, patience, lambda: self._closing)
        self._bedroom = Bedroom(stages, self._heard)
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._night: NightBundle | None = None
        self._stage: StageName | None = None
        self._progress: dict[str, object] | None = None
        self._pause = pause
        self._trouble: str | None = None
        self._closing = False
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
        state = "awake"
        if self.running:
            state = "waking" if self._stage in _WAKING else "asleep"
        night = self._night
        return {
            "state": state,
            "night": night.night if night else None,
            "stage": self._stage if self.running else None,
            "progress": self._progress if self.running else None,
            "held": night.until if night and not self.running else None,
            "trouble": self._trouble if self.running else None,
        }

    async def sleep(self, kind: NightKind, until: StageName | None = None) -> NightRecord:
        """Open a night, or go on with one that is held, and run it in the background up to `until`.

        Raises:
            Conflict: a night is under way, the clock night of this date is over, or one is held by hand
                and only capacity asks.
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
                record = await self._open(kind)
            elif kind == "capacity":
                raise Conflict(f"night {record.id} is held", hint="`ada sleep` finishes it")
            try:
                self._start(await asyncio.to_thread(self._bundle, record, last))
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
            if await asyncio.to_thread(_is_held, night):
                self._night = night
                return None
            self._start(night)
        return record

    async def wait(self) -> None:
        """Return once no night is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End the child and the night's task; the night goes on at the next `resume`."""
        self._closing = True
        self._closed.set()
        self._bedroom.wake()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=_FAREWELL_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task])

    def _start(self, night: NightBundle) -> None:
        self._night, self._stage, self._progress = night, None, None
        self._task = asyncio.create_task(self._run(night), name=f"night {night.night}")

    async def _open(self, kind: NightKind) -> NightRecord:
        now = self._clock()
        upto = await asyncio.to_thread(self._journal.position)
        taken = {night.id for night in await asyncio.to_thread(self._journal.nights, 1_000_000)}
        name = clock_night(self._settings.sunset, now) if kind == "clock" else _free(f"p{upto}", taken)
        if name in taken:
            raise Conflict(f"the clock night {name} is over", hint="`ada sleep` starts another by hand")
        parent = await asyncio.to_thread(generations.active, self._home)
        # Raises now if the parent is damaged: no night can grow from it.
        await asyncio.to_thread(generations.serving, self._home, self._base, parent)
        seed = int.from_bytes(hashlib.sha256(f"{self._settings.mind.id}/{name}".encode()).digest()[:4]) >> 1
        record = NightRecord(name, kind, now, upto, parent, seed)
        record = await asyncio.wrap_future(self._journal.open_night(record))
        self._tell({"event": "night", "state": "opened", "night": record.id, "kind": kind, "upto": upto})
        return record

    def _bundle(self, record: NightRecord, until: StageName | None) -> NightBundle:
        """The night's bundle: the one on disk, with `until` changed, or a new one."""
        folder = (self._home.nights / record.id).absolute()
        try:
            night = read_bundle(folder)
        except BadInput:
            night = self._new_bundle(record)
            write_bundle(night)
        if until is not None and night.until != until:
            night = dataclasses.replace(night, until=until)
            write_bundle(night)
        return night

    def _new_bundle(self, record: NightRecord) -> NightBundle:
        voice = generations.serving(self._home, self._base, record.parent)
        return NightBundle(
            folder=(self._home.nights / record.id).absolute(),
            night=record.id,
            kind=record.kind,
            seed=record.seed,
            until=NAMES[-1],
            parent=record.parent,
            generation=generations.next_id(self._home),
            model=voice.model,
            base=self._base.path,
            base_hash=self._base.hash,
            adapter=generations.adapter_folder(self._home, record.parent),
            core=self._base.core,
            exam=self._base.exam,
            opened_at=record.opened_at,
            upto=record.upto,
            settings=self._settings,
        )

    async def _run(self, night: NightBundle) -> None:
        """Walk the table; what cannot be written (a full disk) is tried again, later and later."""
        self._tell({"event": "night", "state": "asleep", "night": night.night, "until": night.until})
        pause = self._pause
        while not self._closing:
            try:
                await self._walk(night)
                return
            except Exception as error:  # the daemon's tick: logged, and tried again
                log.exception("night %s cannot go on, again in %.0f s", night.night, pause)
                self._trouble = str(error)
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
            if record is None and position(stage.name) > position(night.until) and not ended_early:
                held: dict[str, object] = {"state": "held", "night": night.night, "until": night.until}
                self._tell({"event": "night", **held})
                return
            record = record or await self._stage_run(stage, night)
            if record is None:
                return  # closing
            await self._commit(night, record)
            ended_early = ended_early or record.outcome != "done"
            if stage.name == "report":
                self._night = None
                self._tell({"event": "night", "state": "done", "night": night.night, **record.figures})

    async def _stage_run(self, stage: Stage, night: NightBundle) -> StageRecord | None:
        """Run one stage to its end; None if the daemon is closing."""
        if self._closing:
            return None
        if stage.heavy:
            return await self._in_child(stage.name, night)
        self._enter(stage.name)
        started_at = self._clock()
        self._tell(stage_event(night.night, stage.name, "started"))
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
            started_at = self._clock()
            if await asyncio.to_thread(_starts, night, name) > STARTS:
                # A stage that takes the whole daemon down with it (memory) would do so for ever.
                reason = f"{name} was started {STARTS} times and never came to its end; sleeper.log says more"
                break
            status = await self._bedroom.sleep(night)
            record = await asyncio.to_thread(read_result, night, name)
            if record is not None or self._closing:
                return record
            log.warning("the sleeper ended with status %s in %s (%d of %d)", status, name, death, DEATHS)
            reason = f"the sleeper died {death} times in {name} (status {status}); sleeper.log says more"
        return await asyncio.to_thread(finish, night, name, Halt(reason), started_at, self._clock())

    async def _heard(self, night: NightBundle, event: dict[str, object]) -> None:
        """An event of the child. A finished stage gets its row before anybody hears of it."""
        if event.get("event") == "progress":
            self._progress = {"done": event.get("done"), "total": event.get("total")}
        if event.get("event") == "stage" and event.get("stage") in NAMES:
            name = NAMES[position(str(event["stage"]))]
            self._enter(name)
            record = await asyncio.to_thread(read_result, night, name)
            if event.get("state") == "finished" and record is not None:
                await self._commit(night, record)
                return
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
                self._journal.record_dreams(night.night, night.parent, dreams, overrides)
            )
        await asyncio.wrap_future(self._journal.record_stage(record))
        self._tell(stage_event(night.night, record.name, "finished", record))

    def _enter(self, stage: StageName) -> None:
        if stage != self._stage:
            self._stage, self._progress = stage, None

    def _tell(self, event: dict[str, object]) -> None:
        self._emit(event)


def _starts(night: NightBundle, stage: StageName) -> int:
    """How often a stage has been started, this time included; kept with the night, whoever runs it."""
    path = night.folder / "starts.log"
    append_line(path, stage)
    return path.read_text("utf-8").splitlines().count(stage)


def _is_held(night: NightBundle) -> bool:
    """Whether a night has been run by hand as far as was asked, and well."""
    asked = [read_result(night, stage.name) for stage in STAGES[: position(night.until) + 1]]
    return night.until != NAMES[-1] and all(record and record.outcome == "done" for record in asked)


def _free(name: str, taken: set[str]) -> str:
    """`name`, or if a night had it already the first of `name-2`, `name-3`, … that none had."""
    if name not in taken:
        return name
    return next(f"{name}-{turn}" for turn in range(2, len(taken) + 3) if f"{name}-{turn}" not in taken)
