"""The live view of a night: the daemon's events enter, lines and one moving bar leave.

What has happened is printed for good (a line a stage, a line a judged dream); only the stage under way moves.
When the output is no terminal nothing moves, and of each memory only the first true and the first false dream
is printed; how far the stage has come follows after a while without any line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ada_memory.cli.show import JSON, dream, stage, stage_name
from ada_memory.cli.text import clean, duration, figure, short, spark
from ada_memory.errors import AdaError, Unavailable

if TYPE_CHECKING:
    from ada_memory.client import Client

TICK_SECONDS = 0.2
LOOK_SECONDS = 2.0
"""So often the daemon is asked how the night stands: events may be lost."""
QUIET_SECONDS, QUIET_LOOKS = 0.5, 2
"""A night without a report is held once the daemon was seen awake so many times, so far apart."""
AGAIN_SECONDS = 0.5
"""Pause before a stream of events that ended is asked for again."""
SILENT_SECONDS = 20.0
"""So long at most nothing is printed where nothing moves."""
PATIENCE_SECONDS = 15.0
"""So long the daemon may be away (it restarts, the night resumes) before watching ends."""


@dataclass
class NightView:
    """One night as it is seen: `take` folds an event in and returns the lines that it leaves behind."""

    night: str
    width: int = 100
    brief: bool = False
    """Of each memory one true dream and one false one, instead of all."""
    clock: Callable[[], float] = time.monotonic
    current: str = ""
    since: float = 0.0
    done: float = 0
    total: float = 0
    note: str = ""
    ends: dict[str, float] = field(default_factory=dict)
    """When the stage and the night are expected to end, by the clock."""
    paused: str = ""
    losses: list[float] = field(default_factory=list)
    pending: deque[Text] = field(default_factory=lambda: deque(maxlen=3))
    finished: set[str] = field(default_factory=set)
    seen: set[tuple[object, ...]] = field(default_factory=set)
    shown: set[tuple[object, bool]] = field(default_factory=set)

    def take(self, event: JSON) -> list[Text]:
        """Fold one event in. Events of other nights and of stages that are over change nothing."""
        if event.get("night", self.night) != self.night:
            return []
        kinds: dict[object, Callable[[JSON], list[Text]]] = {
            "stage": self._stage,
            "progress": self._progress,
            "dream": self._dream,
            "step": self._step,
            "active": self._active,
            "pause": self._pause,
        }
        handle = kinds.get(event.get("event"))
        return handle(event) if handle else []

    def rows(self, rows: list[JSON]) -> list[Text]:
        """Fold in the journal's rows of the night: lines for the stages that were not seen to finish."""
        return [line for row in rows for line in self._finish(row, None)]

    def at(self, name: str) -> None:
        """Say which stage is under way, if no event has said so."""
        if name and name != self.current and name not in self.finished:
            self.current, self.since = name, self.clock()
            self.done = self.total = 0
            self.note, self.ends = "", {}
            self.pending.clear()

    def still(self, why: object) -> None:
        """Say whether the night stands still, and for whom."""
        words = {"owner": "paused: `ada resume` lets it go on", "asked": "stands still while somebody asks"}
        self.paused = words.get(str(why), "") if why else ""

    def _pause(self, event: JSON) -> list[Text]:
        self.still(event.get("why") if event.get("state") == "paused" else None)
        return [Text(f"  {self.paused or 'the night goes on'}", style="yellow")]

    def _stage(self, event: JSON) -> list[Text]:
        name = stage_name(event)
        if event.get("state") == "started":
            self.at(name)
            self._estimate(event)
            return []
        worked = event.get("seconds")
        seconds = self.clock() - self.since if name == self.current else None
        return self._finish(event, float(worked) if isinstance(worked, int | float) else seconds)

    def _finish(self, row: JSON, seconds: float | None) -> list[Text]:
        name = stage_name(row)
        if name in self.finished:
            return []
        self.finished.add(name)
        if name == self.current:
            self.current = ""
        self.pending.clear()
        return [stage(row, seconds, self.width)]

    def _progress(self, event: JSON) -> list[Text]:
        self.at(stage_name(event))
        if stage_name(event) == self.current:
            self.done, self.total = event.get("done") or 0, event.get("total") or 0
            self.note = clean(event.get("note"))
            self._estimate(event)
        return []

    def _estimate(self, event: JSON) -> None:
        """Take down when stage and night are expected to end, and how long the stage has worked."""
        if isinstance(event.get("seconds"), int | float):
            self.since = self.clock() - float(event["seconds"])
        named = (("eta_seconds", "left"), ("night_eta_seconds", "until morning"))
        self.ends = {
            what: self.clock() + float(event[name]) for name, what in named if event.get(name) is not None
        }

    @property
    def left(self) -> str:
        """What is left of the stage and of the night; what should be over by now is not told."""
        rest = {what: end - self.clock() for what, end in self.ends.items()}
        told = [f"{duration(seconds)} {what}" for what, seconds in rest.items() if seconds > 0]
        return "about " + ", ".join(told) if told else ""

    def _dream(self, event: JSON) -> list[Text]:
        d = event.get("dream") or {}
        mark = (
            d.get("id"),
            d.get("attempt"),
            d.get("accepted"),
            d.get("score"),
            d.get("prompt"),
            d.get("reply"),
        )
        if not self.current or mark in self.seen:
            return []
        self.seen.add(mark)
        line = dream(event, self.width)
        if not (d.get("accepted") or d.get("score") is not None or d.get("reason")):
            self.pending.append(line)
            return []
        sort = event.get("memory_text"), bool(d.get("accepted"))
        if self.brief and sort in self.shown:
            return []
        self.shown.add(sort)
        return [line]

    def _step(self, event: JSON) -> list[Text]:
        self.at("train")
        self.done, self.total = event.get("step") or 0, event.get("steps") or 0
        self.losses.append(float(event.get("loss") or 0))
        loss, drift, rate = (figure(event.get(name)) for name in ("loss", "drift", "learning_rate"))
        self.note = f"loss {loss}  drift {drift}  rate {rate}"
        return []

    def _active(self, event: JSON) -> list[Text]:
        return (
            [Text(f"  {clean(event.get('generation'))} answers now", style="green")] if self.current else []
        )

    def so_far(self) -> list[Text]:
        """How far the stage under way has come and how long it has worked, as a line."""
        if not self.current:
            return []
        so_far = f" {figure(self.done)} of {figure(self.total)}" if self.total else ""
        doing = so_far or (f": {self.note}" if self.note else " under way")
        worked = f"{duration(self.clock() - self.since)} so far"
        parts = f"  {self.current}{doing}", worked, self.paused or self.left
        return [Text(", ".join(filter(None, parts)), "dim")]

    def __rich__(self) -> RenderableType:
        """The part that moves: the stage under way, its bar, its newest dreams or its loss."""
        if not self.current:
            return Text("")
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self.total or None, completed=self.done, width=24, pulse=not self.total)
        of = f"{figure(self.done)}/{figure(self.total)}" if self.total else ""
        took = duration(self.clock() - self.since)
        curve = f"  {spark(self.losses, 24)}" if self.current == "train" and self.losses else ""
        left = self.paused or self.left
        room = max(self.width - 24 - sum(map(len, (self.current, of, took, left, curve))) - 10, 0)
        row.add_row(
            Spinner("dots"),
            Text(self.current, style="bold"),
            bar,
            Text(of),
            Text(took, style="dim"),
            Text(left, style="yellow" if self.paused else ""),
            Text(short(self.note, room) + curve, style="dim"),
        )
        return Group(row, *self.pending)


def watch(client: Client, night: str, console: Console) -> dict[str, Any]:
    """Show a night until it is over, or held at the stage it was to reach.

    Ctrl-C is the caller's: KeyboardInterrupt comes through with a tidy screen, and the night goes on.

    Returns:
        the night's report (report.json), or {} if the night is held and has none yet.

    Raises:
        Unavailable: the daemon went away and did not come back within some seconds.
    """
    view = NightView(night, console.width, brief=not console.is_terminal)
    inbox: Queue[JSON] = Queue()
    stop = threading.Event()
    ear = threading.Thread(target=_listen, args=(client, inbox, stop), name="ada-events", daemon=True)
    moving = (
        Live(view, console=console, refresh_per_second=8, transient=True) if console.is_terminal else None
    )
    ear.start()
    with moving if moving is not None else nullcontext():
        try:
            printed = view.clock()
            for lines in _follow(client, view, inbox):
                silent = moving is None and not lines and view.clock() - printed > SILENT_SECONDS
                for line in view.so_far() if silent else lines:
                    console.print(line)
                    printed = view.clock()
        finally:
            stop.set()
            view.current = ""
    ear.join(TICK_SECONDS)  # it may wait for an event that never comes; then the process's end ends it
    return dict(client.night(night).get("report") or {})


def _listen(client: Client, inbox: Queue[JSON], stop: threading.Event) -> None:
    """Put the daemon's events into the inbox, and ask for them again when their stream ends."""
    while not stop.is_set():
        with suppress(AdaError):  # that the daemon is away is noticed, and told, by `_follow`
            for event in client.events():
                if stop.is_set():
                    return
                inbox.put(event)
        stop.wait(AGAIN_SECONDS)


def _follow(client: Client, view: NightView, inbox: Queue[JSON]) -> Iterator[list[Text]]:
    """The lines of the night as they come. Events make it quick, the daemon's own answers make it certain."""
    look_at = reached = view.clock()
    quiet = 0
    while True:
        if view.clock() >= look_at and inbox.empty():
            try:
                asleep, over, lines = _look(client, view)
            except Unavailable as away:
                if view.clock() - reached > PATIENCE_SECONDS:
                    raise Unavailable(
                        f"the daemon went away during night {view.night}",
                        hint="start it with `ada run`: the night goes on at its first unfinished stage",
                    ) from away
                asleep, over, lines = True, False, []
            else:
                reached = view.clock()
            yield lines
            quiet = 0 if asleep else quiet + 1
            if over or quiet == QUIET_LOOKS:
                return
            look_at = view.clock() + (LOOK_SECONDS if asleep else QUIET_SECONDS)
        with suppress(Empty):
            event = inbox.get(timeout=TICK_SECONDS)
            yield view.take(event)
            if event.get("event") == "night" and event.get("state") in ("done", "held"):
                look_at = view.clock()


def _look(client: Client, view: NightView) -> tuple[bool, bool, list[Text]]:
    """Ask how the night stands: asleep, over or held, lines of the stages whose end was not seen."""
    now = client.status()
    found = client.night(view.night)
    lines = view.rows(list(found.get("stages") or []))
    asleep = now.get("state") in ("asleep", "waking")
    if asleep and now.get("night") == view.night:
        view.at(str(now.get("stage") or ""))
        view.still(now.get("paused"))
    return asleep, bool(found.get("report")) or (not asleep and bool(now.get("held"))), lines
