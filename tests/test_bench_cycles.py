"""What one REM cycle more brings: the nights are real, here they are told."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ada_memory.bench import cycles, night
from ada_memory.cli.bench_tables import cycles as table
from ada_memory.errors import BadInput


def told(facts: int, seed: int, settings: Mapping[str, int]) -> dict[str, Any]:
    """What `ada bench night` would say, if each cycle held ten dreams and cost five seconds."""
    count, density = settings["dream.cycles"], settings["dream.burst"]
    return {
        "dreams_made": 12 * count, "dreams_held_by_kind": {"bridge": count, "question": 9 * count},
        "lucidity": [0.9] * count, "samples_per_memory_min": count * density, "verdict": "activate",
        "recall_heldout": 0.8 + 0.05 * min(count, 3), "core_before": 0.98, "core_after": 0.98 - 0.001 * count,
        "leak_after": 0.1, "seconds": 100.0 + 6 * count,
        "seconds_by_stage": {"dream": 2.0 * count, "verify": 3.0 * count, "train": 80.0},
    }  # fmt: skip


def test_a_cycle_more_is_the_change_by_the_number_of_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night, "run", told)
    found = cycles.run(5, 3, [4, 1, 2, 2], [16, 8], {"dream.accept": 0.6})
    rows: Any = found["nights"]
    assert [(row["density"], row["cycles"]) for row in rows] == [
        (16, 1), (16, 2), (16, 4), (8, 1), (8, 2), (8, 4),
    ]  # fmt: skip
    assert [row["a_cycle_more"] is None for row in rows] == [True, False, False] * 2
    assert rows[1]["a_cycle_more"] == {
        "dreams_held": 10, "bridges": 1, "recall_heldout": 0.05, "core_after": -0.001,
        "seconds_dreaming": 5.0, "seconds": 6.0,
    }  # fmt: skip
    assert rows[2]["a_cycle_more"]["recall_heldout"] == pytest.approx(0.025), "one of two cycles helped"
    out = StringIO()
    Console(file=out, width=120).print(table(found))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["2", "16", "20", "2", "0.900", "0.900", "0.978", "10.0", "s", "1", "min", "52", "s"] in lines
    assert ["one", "more", "+10", "+1", "+0.050", "-0.001", "+5", "s", "+6", "s"] in lines


@pytest.mark.parametrize(("counts", "densities"), [([], [16]), ([2], []), ([0, 2], [16]), ([2], [-1])])
def test_no_cycles_are_no_bench(counts: list[int], densities: list[int]) -> None:
    with pytest.raises(BadInput, match="whole numbers from 1"):
        cycles.run(5, 3, counts, densities)
