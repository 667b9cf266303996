"""`ada bench cycles`: what does one more REM cycle bring?

The same day is slept upon once for every number of cycles and every density (dreams that a memory gets in
a cycle), each time by a real night on a home of its own. Told of each night: how many dreams held, how lucid
its cycles were, how many bridges between two memories there were, what was known in the morning, what it
cost; and of each step to more cycles, what one cycle of it brought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ada_memory.bench import night
from ada_memory.bench.night import say
from ada_memory.errors import BadInput

BROUGHT = ("dreams_held", "bridges", "recall_heldout", "core_after", "seconds_dreaming", "seconds")
"""Figures of which the change with one cycle more is told."""


def run(
    facts: int,
    seed: int,
    cycles: Sequence[int],
    densities: Sequence[int],
    settings: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Run the benchmark; progress goes to standard error.

    Raises:
        BadInput: a number of cycles or of dreams below 1, or none at all.
        AdaError: a night failed.
    """
    if not cycles or not densities or min(*cycles, *densities) < 1:
        raise BadInput("cycles and densities are whole numbers from 1", hint="such as --cycles 1,2,4")
    rows: list[dict[str, Any]] = []
    for density in dict.fromkeys(densities):
        fewer: dict[str, Any] | None = None
        for count in sorted(set(cycles)):
            say(f"{count} REM cycles of {density} dreams a memory")
            chosen = {"dream.cycles": count, "dream.burst": density}
            row = _row(count, density, night.run(facts, seed, settings={**(settings or {}), **chosen}))
            row["a_cycle_more"] = _brought(fewer, row) if fewer else None
            rows.append(row)
            fewer = row
    return {"facts": facts, "seed": seed, "nights": rows}


def _row(cycles: int, density: int, told: Mapping[str, Any]) -> dict[str, Any]:
    took, kinds = told["seconds_by_stage"], told["dreams_held_by_kind"]
    return {
        "cycles": cycles,
        "density": density,
        "dreams": told["dreams_made"],
        "dreams_held": sum(kinds.values()),
        "bridges": kinds.get("bridge", 0),
        "lucidity": told["lucidity"],
        "samples_per_memory_min": told["samples_per_memory_min"],
        "verdict": told["verdict"],
        "recall_heldout": told["recall_heldout"],
        "core_before": told["core_before"],
        "core_after": told["core_after"],
        "leak_after": told["leak_after"],
        "seconds_dreaming": round(took["dream"] + took["verify"], 1),
        "seconds": told["seconds"],
    }


def _brought(fewer: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, float]:
    """What changed from one night to the one with more cycles, for each cycle more."""
    steps = more["cycles"] - fewer["cycles"]
    return {name: round((more[name] - fewer[name]) / steps, 4) for name in BROUGHT}
