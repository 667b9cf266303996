"""`ada bench dream`: dreams a second, all of a cycle at once and one at a time.

Real memories of an invented day are read by the real DreamGenerator on the seedling, then whole REM cycles
are dreamt twice: once as the night does it, once with an engine that decodes a single chat at a time. What a
chat gets depends on the seed and on its place in the list alone, so both should dream the same: how many of
the dreams do is told (rounding may turn a word where two are as likely).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

from ada_memory.bench import day as days
from ada_memory.bench.clock import device_name
from ada_memory.bench.forge_data import SEEDLING, default_engine
from ada_memory.bench.night import say
from ada_memory.dream import rem
from ada_memory.dream.generator import DreamGenerator
from ada_memory.engines.engine import Engine, open_engine
from ada_memory.errors import AdaError
from ada_memory.records import Dream
from ada_memory.settings import DreamSettings


def run(facts: int = 20, seed: int = 7, cycles: int = 2) -> dict[str, object]:
    """Run the benchmark; progress goes to standard error.

    Raises:
        AdaError: the model found nothing to dream of, or the engine cannot be told to decode one at a time.
    """
    name, settings = default_engine(), DreamSettings()
    together, alone = (open_engine(name, SEEDLING) for _ in range(2))
    one_at_a_time(alone)
    memories = [(f"m{at}", item.text) for at, item in enumerate(days.day(facts, seed))]
    readings = DreamGenerator(together, settings, seed).read(memories)
    claims = [(reading.memory, claim) for reading in readings for claim in reading.claims]
    if not claims:
        raise AdaError("the model found nothing to dream of in the day")
    say(f"{len(memories)} memories read, {len(claims)} claims; each cycle takes a while one dream at a time")
    for engine in (together, alone):  # the first call of each warms up
        _dream(engine, settings, seed, claims[:2], cycles)
    batched: list[float] = []
    single: list[float] = []
    made = same = 0
    for cycle in range(cycles):
        fast, dreams = _dream(together, settings, seed, claims, cycle)
        slow, again = _dream(alone, settings, seed, claims, cycle)
        batched.append(len(dreams) / fast)
        single.append(len(again) / slow)
        made += len(dreams)
        same += sum((a.prompt, a.reply) == (b.prompt, b.reply) for a, b in zip(dreams, again, strict=True))
        say(f"cycle {cycle + 1}: {batched[-1]:.1f} dreams a second at once, {single[-1]:.1f} one at a time")
    return {
        "facts": facts,
        "seed": seed,
        "cycles": cycles,
        "dreams": made,
        "dreams_same": same,
        "dreams_per_second": round(statistics.median(batched), 2),
        "dreams_per_second_one_at_a_time": round(statistics.median(single), 2),
        "speedup": round(statistics.median(b / s for b, s in zip(batched, single, strict=True)), 2),
        "speedup_by_cycle": [round(b / s, 2) for b, s in zip(batched, single, strict=True)],
        "engine": name,
        "device": device_name(),
    }


def one_at_a_time(engine: Engine) -> None:
    """Leave an engine room for a single chat when it decodes; places in the list, and so draws, stay.

    Raises:
        AdaError: it does not group chats by a budget of tokens.
    """
    if not hasattr(engine, "_tokens"):
        raise AdaError(f"{type(engine).__name__} cannot be told to decode one chat at a time")
    within: Any = engine
    within._tokens = lambda **_: 1


def _dream(
    engine: Engine, settings: DreamSettings, seed: int, claims: rem.Claims, cycle: int
) -> tuple[float, Sequence[Dream]]:
    """Seconds of one REM cycle, and its dreams."""
    generator = DreamGenerator(engine, settings, seed)
    began = time.perf_counter()
    dreams = list(chain.from_iterable(rem.cycle(generator, claims, cycle)))
    return time.perf_counter() - began, dreams
