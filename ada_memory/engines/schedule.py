"""The learning rate in closed form, and the order in which samples are trained.

In: step numbers, lengths, a seed. Out: plain numbers and lists of row numbers. No torch here, so that
both can be checked by hand.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

WINDOW = 8
"""Batches that are sorted by length together: little padding, yet a well shuffled epoch."""


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of `step` (from 1 to `steps`): linear warm-up to `peak`, then a cosine to zero.

    With w = round(warmup * steps): peak * step / w up to step w, and after it
    peak * (1 + cos(pi * (step - w) / (steps - w + 1))) / 2, which is zero at steps + 1: no step is wasted.
    """
    rising = round(warmup * steps)
    if step <= rising:
        return peak * step / rising
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
