"""What a training run is to learn. Samples enter; rows, their weights and pools, and a run's course leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.schedule import Course
from ada_memory.engines.text import Row, Wording
from ada_memory.errors import BadInput
from ada_memory.records import Sample


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows, a weight and a pool for each ("" for none), and anchors."""

    rows: Sequence[Row]
    weights: Sequence[float]
    pools: Sequence[str]
    anchors: Sequence[Row]

    @classmethod
    def of(
        cls, wording: Wording, samples: Sequence[Sample], anchors: Sequence[Sample], plan: TrainPlan
    ) -> Lesson:
        """The lesson in a model's own words. Rows of the core that this model cannot take are left out.

        Raises:
            BadInput: no samples, or one that does not end with the assistant.
        """
        samples, anchors = _fitting(wording, samples), _fitting(wording, anchors)
        if not samples:
            raise BadInput("there is nothing to train on")
        rows = _rows(wording, samples)
        if not plan.mask_prompt:
            rows = [Row(row.prompt[:1], row.prompt[1:] + row.reply) for row in rows]
        weights, pools = [sample.weight for sample in samples], [sample.pool for sample in samples]
        held = [
            replace(row, slack=anchor.slack)
            for row, anchor in zip(_rows(wording, anchors), anchors, strict=True)
        ]
        return cls(rows, weights, pools, held)

    def halved(self, tokens: int, plan: TrainPlan, times: int) -> int:
        """So many tokens at a time, halved: from what a step takes if its rows are the longest, at most."""
        if not times:
            return tokens
        rows, held = (max(map(len, part), default=0) for part in (self.rows, self.anchors))
        return min(tokens, plan.batch_size * rows + plan.anchor_batch * held) >> times

    def course(self, plan: TrainPlan) -> Course:
        """The steps in which a plan takes the rows."""
        lengths, held = ([len(row) for row in part] for part in (self.rows, self.anchors))
        return Course(lengths, self.pools, held, plan)


def _fitting(wording: Wording, samples: Sequence[Sample]) -> list[Sample]:
    """Without what was kept for any model to practise, and is too long for this one."""
    core = [at for at, sample in enumerate(samples) if sample.source == "core" and sample.messages]
    lengths = map(len, wording.replies([samples[at].messages[-1].content for at in core]))
    long = {at for at, length in zip(core, lengths, strict=True) if length >= wording.limit}
    return [sample for at, sample in enumerate(samples) if at not in long]


def _rows(wording: Wording, samples: Sequence[Sample]) -> list[Row]:
    for sample in samples:
        if len(sample.messages) < 2 or sample.messages[-1].role != "assistant":
            raise BadInput("a sample is a chat of at least two messages that ends with the assistant")
    chats = [sample.messages[:-1] for sample in samples]
    return wording.rows(chats, [sample.messages[-1].content for sample in samples])
