"""The training loop: LoRA on rows, held to the base on anchors.

In: a model with an adapter, weighted rows, anchor rows, a plan. Out: the adapter's weights, changed in
place; a Step after every step. It saves nothing, so a run that goes wrong leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch.nn import functional as F

from ada_memory.engines.engine import Step, TrainPlan, Watch
from ada_memory.engines.peft_rows import Packed, pack, reply_logits
from ada_memory.engines.peft_text import Row
from ada_memory.engines.schedule import epoch, grouped, learning_rate, rotation
from ada_memory.errors import AdaError

TEACHER_VOCABULARY = 8192
"""Up to this vocabulary the base's log-probabilities on an anchor are kept, not computed each time."""


@dataclass(slots=True)
class Trainee:
    """The model that is trained and how its rows are run: `tokens` fit into memory at a time."""

    model: Any
    pad: int
    tokens: int
    mixed: bool
    teacher: dict[int, torch.Tensor] = field(default_factory=dict)

    def logits(self, packed: Packed) -> torch.Tensor:
        return reply_logits(self.model, packed, self.mixed)

    def parts(self, rows: Sequence[Row], chosen: Sequence[int]) -> Iterator[tuple[list[int], Packed]]:
        """The chosen rows in groups that fit into memory."""
        for group in grouped([len(rows[row]) for row in chosen], self.tokens):
            members = [chosen[at] for at in group]
            yield members, pack([rows[row] for row in members], self.pad, self.model.device)


def train(
    trainee: Trainee,
    rows: Sequence[Row],
    weights: Sequence[float],
    anchors: Sequence[Row],
    plan: TrainPlan,
    watch: Watch,
) -> None:
    """Change the adapter until the plan is done or `watch` says so. Steps and epochs count from 1.

    The loss of a step is sum(weight * nll) / (tokens of rows with a weight above 0).

    Raises:
        AdaError: a loss or gradient that is not finite; the model in memory is then of no use.
    """
    parameters = [p for p in trainee.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    batches = math.ceil(len(rows) / plan.batch_size)
    slices = _anchor_slices(anchors, batches, plan)
    lengths = [len(row) for row in rows]
    step = tokens = 0
    for number in range(1, plan.epochs + 1):
        for batch in epoch(lengths, plan.batch_size, plan.seed, number):
            step += 1
            rate = learning_rate(step, batches * plan.epochs, plan.learning_rate, plan.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            trainee.model.train()  # a watch that generated has left it in eval mode
            loss = _learn(trainee, rows, weights, batch)
            kl = _stay(trainee, anchors, next(slices), plan.kl_weight)
            norm = torch.nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm)
            if not (math.isfinite(loss) and math.isfinite(kl) and bool(torch.isfinite(norm))):
                raise AdaError(
                    f"training broke at step {step}: loss {loss}, KL {kl}, gradient norm {float(norm)}",
                    hint="lower forge.learning_rate",
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += sum(len(rows[row].reply) for row in batch)
            done = Step(
                step, batches * plan.epochs, number, loss, kl, optimizer.param_groups[0]["lr"], tokens
            )
            if watch(done):
                return


def _anchor_slices(anchors: Sequence[Row], batches: int, plan: TrainPlan) -> Iterator[list[int]]:
    """Which anchors each step takes: all of them about once an epoch, at most a batch at a time."""
    if not anchors or plan.kl_weight == 0:
        return repeat([])
    size = min(plan.batch_size, math.ceil(len(anchors) / batches))
    return rotation([len(row) for row in anchors], size, plan.seed)


def _learn(trainee: Trainee, rows: Sequence[Row], weights: Sequence[float], batch: Sequence[int]) -> float:
    """Gradient of the weighted loss on a batch; returns the loss."""
    bearing = sum(len(rows[row].reply) for row in batch if weights[row] > 0)
    total = 0.0
    for members, packed in trainee.parts(rows, batch):
        nll = F.cross_entropy(trainee.logits(packed), packed.token, reduction="none")
        weight = torch.tensor([weights[row] for row in members], device=nll.device)[packed.row]
        loss = (nll * weight).sum() / max(bearing, 1)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def _stay(trainee: Trainee, anchors: Sequence[Row], batch: Sequence[int], kl_weight: float) -> float:
    """Gradient of kl_weight * KL(base || model) on anchors; returns the mean KL a token."""
    count = sum(len(anchors[row].reply) for row in batch)
    total = 0.0
    for members, packed in trainee.parts(anchors, batch):
        base = _teacher(trainee, members, packed)
        own = torch.log_softmax(trainee.logits(packed), -1)
        kl = F.kl_div(own, base, reduction="sum", log_target=True) / count
        (kl_weight * kl).backward()  # type: ignore[no-untyped-call]
        total += kl.item()
    return total


def _teacher(trainee: Trainee, members: Sequence[int], packed: Packed) -> torch.Tensor:
    """The base's log-probabilities on these anchors' replies: shape (N, vocabulary)."""
    known = trainee.teacher
    if all(row in known for row in members):
        return torch.cat([known[row] for row in members]).to(packed.ids.device)
    with torch.no_grad(), trainee.model.disable_adapter():
        base = torch.log_softmax(trainee.logits(packed), -1)
    if base.shape[-1] <= TEACHER_VOCABULARY:
        known.update(zip(members, torch.split(base.cpu(), packed.sizes), strict=True))
    return base
