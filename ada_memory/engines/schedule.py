"""The course of a training run: the learning rate in closed form, and the rows that each step takes.

In: lengths, a plan. Out: plain numbers and lists of row numbers. No torch here, so that every engine walks
the same course and it can be checked by hand.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

from ada_memory.engines.engine import Step, TrainPlan

WINDOW = 8
"""Batches that are sorted by length together: little padding, yet a well shuffled epoch."""
AHEAD = 8
"""Steps whose anchors are drawn at once, so that the base's view of them can be worked out at once."""


@dataclass(frozen=True, slots=True)
class Stride:
    """One step: its number, how many there are by now, the epoch, its rows and anchors, the learning rate.

    `drawn` are the anchors of this step and those that follow, where new ones were drawn for it.
    """

    step: int
    steps: int
    epoch: int
    ends_epoch: bool
    rows: list[int]
    anchors: list[int]
    drawn: list[int]
    rate: float

    def done(self, loss: float, drift: float, tokens: int) -> Step:
        """The step as it is watched."""
        return Step(self.step, self.steps, self.epoch, loss, drift, self.rate, tokens, self.ends_epoch)


class Course:
    """The steps of a run, in order. `pools` names the pool of each row, "" for a row of every epoch.

    Once it was told that it is enough, the rest of the rate's curve is walked in `plan.landing` epochs; rows
    that it was told of come after that, each time on a curve of their own. A run that is resumed is told of
    both by `restore`, and takes the same steps.
    """

    def __init__(
        self, lengths: Sequence[int], pools: Sequence[str], anchors: Sequence[int], plan: TrainPlan
    ) -> None:
        self._lengths, self._plan = lengths, plan
        self._pools = _members(pools)
        self.batches = math.ceil(len(self._taken(1)) / plan.batch_size)
        self._planned = self.batches * plan.epochs
        size = min(plan.anchor_batch, len(anchors))
        held = bool(anchors) and plan.drift_weight > 0
        self._anchors = rotation(anchors, size, plan.seed) if held else repeat([])
        self._ready: deque[list[int]] = deque()
        self._step = 0
        self._landed = 0
        self._mended: list[list[int]] = []

    def heed(self, said: bool | Sequence[int]) -> None:
        """What the watch says after this step (see `Watch`); False changes nothing."""
        if said is True:
            self._landed = self._landed or self._step
        elif said:
            self._mended.append(list(said))

    def state(self) -> dict[str, Any]:
        """What the watch has said so far."""
        return {"landed": self._landed, "mended": self._mended}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self._landed, self._mended = int(state["landed"]), [list(rows) for rows in state["mended"]]

    @property
    def steps(self) -> int:
        """How many steps the run has, as far as is known by now."""
        return self._descent + sum(math.ceil(len(rows) / self._plan.batch_size) for rows in self._mended)

    @property
    def _descent(self) -> int:
        """The step at which the rate reaches zero for the first time."""
        if not self._landed:
            return self._planned
        return min(self._planned, self._landed + self._plan.landing * self.batches)

    def __iter__(self) -> Iterator[Stride]:
        yield from self._down()
        plan = self._plan
        for number, rows in enumerate(self._mended, plan.epochs + 1):  # it grows while it is walked
            batches = list(self._epoch(rows, number))
            for at, (batch, last) in enumerate(batches, 1):
                rate = learning_rate(at, len(batches), plan.mend_rate, plan.warmup)
                yield self._stride(number, batch, last, rate)

    def _down(self) -> Iterator[Stride]:
        """The epochs of the plan, until the rate has reached zero."""
        plan = self._plan
        for number in range(1, plan.epochs + 1):
            for batch, last in self._epoch(self._taken(number), number):
                if self._step >= self._descent:
                    return
                place = self._place(self._step + 1)
                rate = learning_rate(place, self._planned, plan.learning_rate, plan.warmup, plan.decay)
                yield self._stride(number, batch, last, rate)

    def _epoch(self, rows: Sequence[int], number: int) -> Iterator[tuple[list[int], bool]]:
        """The batches of an epoch, and whether one is the last."""
        plan = self._plan
        batches = epoch([self._lengths[row] for row in rows], plan.batch_size, plan.seed, number)
        for at, batch in enumerate(batches, 1):
            yield [rows[place] for place in batch], at == len(batches)

    def _stride(self, number: int, rows: list[int], last: bool, rate: float) -> Stride:
        self._step += 1
        drawn = self._draw()
        return Stride(self._step, self.steps, number, last, rows, self._ready.popleft(), drawn, rate)

    def _draw(self) -> list[int]:
        """Anchors of the next steps, if none lie ready."""
        if self._ready:
            return []
        self._ready.extend(islice(self._anchors, AHEAD))
        return [anchor for batch in self._ready for anchor in batch]

    def _taken(self, number: int) -> list[int]:
        """The rows of an epoch: those without a pool, and of each pool the one whose turn it is."""
        return [own[(number - 1) % len(own)] for own in self._pools]

    def _place(self, step: int) -> float:
        """How far along the planned curve a step is, in steps."""
        if step <= self._landed or not self._landed:
            return step
        share = (step - self._landed) / max(self._descent - self._landed, 1)
        return self._landed + (self._planned - self._landed) * share


def _members(pools: Sequence[str]) -> list[list[int]]:
    """Rows by pool, in order; a row without one has a place of its own."""
    members: dict[str | int, list[int]] = {}
    for row, pool in enumerate(pools):
        members.setdefault(pool or row, []).append(row)
    return list(members.values())


def learning_rate(step: float, steps: int, peak: float, warmup: float, decay: bool = True) -> float:
    """The rate at `step` (above 0, up to `steps`): linear warm-up to `peak`, then a cosine to zero.

    With w = round(warmup * steps): peak * step / w up to step w, and after it
    peak * (1 + cos(pi * (step - w) / (steps - w + 1))) / 2, which is zero at steps + 1: no step is wasted.
    Without `decay` it stays at `peak` after step w.
    """
    rising = round(warmup * steps)
    if step <= rising:
        return peak * step / rising
    if not decay:
        return peak
    return peak * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1))) / 2


def epoch(lengths: Sequence[int], batch_size: int, seed: int, number: int) -> list[list[int]]:
    """One epoch as batches of row numbers: shuffled, rows of like length together, every row once.

    There are always ceil(rows / batch_size) batches; the short one is kept.
    """
    shuffle = random.Random(f"{seed}/{number}")
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = sorted(order[start : start + batch_size * WINDOW], key=lambda row: lengths[row])
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    shuffle.shuffle(batches)
    return batches


def rotation(lengths: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Batches of `size` rows without end: every row comes once before any comes again."""
    number = 0
    while lengths:
        yield from epoch(lengths, size, seed, number)
        number += 1


def grouped(lengths: Sequence[int], tokens: int, rows: int = 256) -> list[list[int]]:
    """Row numbers in groups of like length, longest first, of at most `tokens` after padding."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    groups: list[list[int]] = []
    for row in order:
        last = groups[-1] if groups else []
        if last and len(last) < rows and (len(last) + 1) * lengths[last[0]] <= tokens:
            last.append(row)
        else:
            groups.append([row])
    return groups
