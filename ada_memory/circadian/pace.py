"""How long a night will take. Measured seconds enter; estimates leave, or None where nothing was measured.

With d of t pieces of a stage done, its first piece told after s0 seconds and its last after s:

    left of the stage = (t - d) · (s - s0) / (d - d0)
    left of the night = left of the stage + the sum, over the stages to come, of what each usually takes

What a stage usually takes is the median over earlier nights: of its seconds for each memory where the stage
works through memories, else of its seconds. Seconds are of work: while a night is paused, none pass.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from ada_memory.circadian.stages import NAMES, position

NIGHTS = 7
"""How many of the last nights of one kind tell what a stage usually takes."""
FIGURES = ("seconds", "eta_seconds", "night_eta_seconds")
"""What is told of a night under way: of its stage, what is left of that, what is left of the night."""
BY_MEMORY = frozenset({"dream", "verify", "dataset", "train"})
"""Stages whose work grows with the new memories of the night."""


class Stopwatch:
    """Seconds of work since `start`: none pass between `hold` and `go_on`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._before = 0.0
        self._held = False

    def start(self) -> None:
        """Back to zero; a watch that is held stays held."""
        self._since, self._before = self._now(), 0.0

    def hold(self) -> None:
        """Stand still."""
        if not self._held:
            self._before, self._held = self.seconds, True

    def go_on(self) -> None:
        """Run again."""
        if self._held:
            self._since, self._held = self._now(), False

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return self._before + (0.0 if self._held else self._now() - self._since)


@dataclass
class Pace:
    """How fast one stage gets on. What it tells of itself enters by `take`."""

    done: float = 0.0
    total: float = 0.0
    at: float = 0.0
    """Seconds into the stage when `done` was told."""
    first: tuple[float, float] | None = None
    """The first `done` with its seconds: until then a stage may have loaded a model."""

    def take(self, done: float, total: float, seconds: float) -> None:
        """The stage has done so much of `total`, `seconds` after its start."""
        self.done, self.total, self.at = done, total, seconds
        self.first = self.first or (done, seconds)

    def left(self, seconds: float) -> float | None:
        """How many seconds the stage will still take, `seconds` after its start; None if it cannot say."""
        if self.first is None or self.done <= 0 or self.total < self.done:
            return None
        done, at = self.first if self.done > self.first[0] else (0.0, 0.0)
        left = (self.total - self.done) * (self.at - at) / (self.done - done)
        return max(0.0, left - max(0.0, seconds - self.at))


@dataclass(frozen=True, slots=True)
class Took:
    """What one earlier night took: its memories, and the seconds of each stage that came to its end."""

    memories: int
    seconds: Mapping[str, float] = field(default_factory=dict)


def took(report: Mapping[str, Any]) -> Took:
    """What a night took, by its report; a stage that was skipped or halted says nothing."""
    figures = (report.get("figures") or {}).get("gather") or {}
    cut = {str((report.get(word) or {}).get("stage")) for word in ("halted", "skipped")}
    by_stage = report.get("seconds_by_stage") or {}
    return Took(gathered(figures), {name: float(s) for name, s in by_stage.items() if name not in cut})


def gathered(figures: Mapping[str, Any]) -> int:
    """How many new memories a night works on, by the figures of its stage gather."""
    return int(figures.get("taken") or 0)


def alike(reports: Iterable[Mapping[str, Any]], depth: str, base: str) -> list[Took]:
    """What the nights took that were as deep and on the same base, the last NIGHTS of them; newest first."""
    found = (took(report) for report in reports if (report.get("depth"), report.get("base")) == (depth, base))
    return list(islice(found, NIGHTS))


def usual(nights: Sequence[Took], memories: int | None) -> dict[str, float]:
    """The seconds that each stage usually takes in a night of so many memories; without them only some."""
    seen: dict[str, list[float]] = defaultdict(list)
    for night in nights:
        for stage, seconds in night.seconds.items():
            if stage not in BY_MEMORY:
                seen[stage].append(seconds)
            elif memories is not None and night.memories:
                seen[stage].append(seconds * memories / night.memories)
    return {stage: median(values) for stage, values in seen.items()}


def stage_left(pace: Pace, stage: str, seconds: float, usually: Mapping[str, float]) -> float | None:
    """The rest of a stage: by its own pace, else by what it usually takes; None if neither is known."""
    own = pace.left(seconds)
    return own if own is not None or stage not in usually else max(0.0, usually[stage] - seconds)


def night_left(left: float | None, to_come: Iterable[str], usually: Mapping[str, float]) -> float | None:
    """The rest of a night: of the stage under way and of those to come; None if one is not known."""
    rest = [left, *(usually.get(stage) for stage in to_come)]
    return None if None in rest else sum(seconds for seconds in rest if seconds is not None)


class Meter:
    """Times one night after another, stage by stage."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._watch = Stopwatch(now)
        self.hold, self.go_on = self._watch.hold, self._watch.go_on
        self._stage, self._pace = "", Pace()
        self._until = NAMES[-1]
        self._earlier: Sequence[Took] = ()
        self._usual: Mapping[str, float] = {}

    def begin(self, earlier: Sequence[Took], until: str) -> None:
        """A night that goes up to the stage `until`; `earlier` are nights like it."""
        self._earlier, self._until = earlier, NAMES[position(until)]
        self._usual = usual(earlier, None)
        self._stage = ""

    def gathered(self, memories: int) -> None:
        """The night works on so many memories."""
        self._usual = usual(self._earlier, memories)

    def enter(self, stage: str) -> None:
        """A stage begins; one that is under way already goes on."""
        if stage != self._stage:
            self._stage, self._pace = stage, Pace()
            self._watch.start()

    def again(self) -> None:
        """The stage under way is begun once more."""
        self._pace = Pace()
        self._watch.start()

    def take(self, done: object, total: object) -> None:
        """The stage under way says how far it is; what is no number is not heard."""
        if isinstance(done, int | float) and isinstance(total, int | float):
            self._pace.take(float(done), float(total), self._watch.seconds)

    @property
    def seconds(self) -> float:
        """How long the stage under way has worked."""
        return round(self._watch.seconds, 3)

    def figures(self) -> dict[str, float | None]:
        """Seconds of work in this stage, and what is left of it and of the night."""
        seconds = self._watch.seconds
        left = stage_left(self._pace, self._stage, seconds, self._usual)
        place = NAMES.index(self._stage) if self._stage in NAMES else -1
        # The report is written in no time, and cannot tell its own.
        to_come = [name for name in NAMES[place + 1 : position(self._until) + 1] if name != "report"]
        whole = night_left(left if self._stage else 0.0, to_come, self._usual)
        return dict(zip(FIGURES, (round(seconds, 3), _rounded(left), _rounded(whole)), strict=True))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
