"""The training loop: LoRA on rows, held to the base on anchors.

In: a model with an adapter, weighted rows, anchor rows, a plan. Out: the adapter's weights, changed in
place; a Step after every step. Of a run that goes wrong nothing is left behind; one that is killed goes on
from its last checkpoint.
"""

from __future__ import annotations

import gc
import math

import torch

from ada_memory.engines import memory, peft_resume
from ada_memory.engines.engine import TrainPlan, Watch
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.peft_optimizer import Optimizer
from ada_memory.engines.peft_step import Trainee, parts
from ada_memory.engines.resume import Checkpoint
from ada_memory.engines.schedule import Stride
from ada_memory.errors import AdaError


def train(trainee: Trainee, lesson: Lesson, plan: TrainPlan, watch: Watch, checkpoint: Checkpoint) -> None:
    """Change the adapter until the plan is done or `watch` says so. Steps and epochs count from 1.

    The loss of a step is sum(weight * nll) / (tokens of rows with a weight above 0). Steps that a run
    before this one has saved are not repeated, and `watch` does not see them again.

    Raises:
        AdaError: a loss or gradient that is not finite, or too little memory for a single row; the model
            in memory is then of no use.
    """
    optimizer = Optimizer(trainee.model, plan)
    course = lesson.course(plan)
    behind = peft_resume.load(checkpoint, trainee, optimizer, course)
    tokens = 0
    for stride in course:
        tokens += sum(len(lesson.rows[row].reply) for row in stride.rows)
        if stride.step <= behind:
            continue
        optimizer.rate = stride.rate
        trainee.model.train()  # a watch that generated has left it in eval mode
        loss, drift = _gradient(trainee, optimizer, lesson, stride, plan)
        norm = optimizer.clip(plan.max_grad_norm)
        if not all(map(math.isfinite, (loss, drift, norm))):
            checkpoint.remove()  # going on from there would end in the same
            raise AdaError(
                f"training broke at step {stride.step}: loss {loss}, drift {drift}, gradient norm {norm}",
                hint="lower forge.learning_rate",
            )
        optimizer.step()
        course.heed(watch(stride.done(loss, drift, tokens)))
        if stride.step < course.steps:
            peft_resume.save_if_due(checkpoint, stride.step, trainee, optimizer, course)
    optimizer.release()


def _gradient(
    trainee: Trainee,
    optimizer: Optimizer,
    lesson: Lesson,
    stride: Stride,
    plan: TrainPlan,
) -> tuple[float, float]:
    """The step's loss and mean drift, their gradient on the adapter. Too little memory: in smaller parts."""
    rows, weights = [lesson.rows[row] for row in stride.rows], [lesson.weights[row] for row in stride.rows]
    anchors, drawn = (
        [(anchor, lesson.anchors[anchor]) for anchor in numbers] for numbers in (stride.anchors, stride.drawn)
    )
    while True:
        optimizer.clear()
        if plan.dropout or plan.noise:
            # a step draws the same wherever a run begins
            torch.manual_seed(plan.seed * 1_000_003 + stride.step)
        try:
            trainee.way.foresee(drawn, trainee.tokens)
            sums = [
                torch.stack(trainee.way.learn(part))
                for part in parts(rows, weights, anchors, plan, trainee.tokens, padded=trainee.way.padded)
            ]
            loss, pull = torch.stack(sums).sum(0).tolist()
            return loss, pull / plan.drift_weight if anchors else 0.0
        except (RuntimeError, MemoryError) as error:
            if not memory.short_of_memory(error):
                raise
        # out of the except block: its traceback would keep the tensors that did not fit
        gc.collect()
        if trainee.model.device.type == "cuda":
            torch.cuda.empty_cache()
        memory.make_room(trainee, max(len(row) for row in (*rows, *(row for _, row in (*anchors, *drawn)))))
