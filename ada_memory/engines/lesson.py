"""What a training run is to learn. Samples' rows, weights and pools enter; the course of a run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.schedule import Course
from ada_memory.engines.text import Row


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows, a weight and a pool for each ("" for none), and anchors."""

    rows: Sequence[Row]
    weights: Sequence[float]
    pools: Sequence[str]
    anchors: Sequence[Row]

    def course(self, plan: TrainPlan) -> Course:
        """The steps in which a plan takes the rows."""
        lengths, held = ([len(row) for row in part] for part in (self.rows, self.anchors))
        return Course(lengths, self.pools, held, plan)
