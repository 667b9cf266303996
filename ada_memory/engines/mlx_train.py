"""The training loop on MLX: LoRA on rows, held to the base on anchors.

In: a model with an adapter, weighted rows, anchor rows, a plan. Out: the adapter's weights, changed in
place; a Step after every step. Of a run that goes wrong nothing is left behind; one that is killed goes on
from its last checkpoint.

The LoRA layers are mlx-lm's (mlx_lm.tuner.lora) and so are model and caches; the optimizer and the clipping
are MLX's. The loop is ours, because mlx_lm.tuner.trainer.train, which does take a loss and batches, cannot do
five things that a night needs: take a batch in as many parts as fit into memory (it accumulates over a fixed
number of equal batches), clip the gradient and stop on one that is not finite before it is applied, tell the
loss from the drift, leave nothing half-written behind (it writes adapters.safetensors in place, in a format
of its own) and stay silent (it draws on stdout, where a child of the daemon speaks JSON).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ada_memory.engines import memory, mlx_resume
from ada_memory.engines.engine import TrainPlan, Watch
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.mlx_body import Body
from ada_memory.engines.mlx_core import mx, optimizers, trees
from ada_memory.engines.mlx_load import set_strength
from ada_memory.engines.remembered import Remembered
from ada_memory.engines.resume import Checkpoint
from ada_memory.engines.schedule import Stride, grouped
from ada_memory.engines.text import Row
from ada_memory.errors import AdaError

WIDTH, PLACES = 4, 64
"""Batches are widened to such multiples: a compiled step is compiled once for every shape it meets."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch: ids (rows, width); for each of its N reply tokens the flat place that predicts it, and it.

    The last N - sum(sizes) are there to fill up; whoever adds up over N leaves them out.
    """

    ids: Any
    where: Any
    token: Any
    sizes: list[int]

    def spread(self, values: Sequence[float]) -> Any:
        """A value of each row at each of its reply tokens, 0 where it only fills up: shape (N,)."""
        flat = np.repeat(np.asarray(values, np.float32), self.sizes)
        return mx.array(np.pad(flat, (0, self.token.size - len(flat))))


@dataclass(slots=True)
class Trainee:
    """The model that is trained and how its rows are run: `tokens` fit into memory at a time."""

    body: Body
    pad: int
    tokens: int
    compiled: bool
    teacher: Remembered[Any] = field(default_factory=Remembered)

    @property
    def recompute(self) -> bool:
        """Whether layers are computed a second time on the way back."""
        return self.body.recompute

    def recompute_layers(self) -> None:
        """Keep only what enters a layer, from now on."""
        self.body.recompute = True

    def parts(self, rows: Sequence[Row], chosen: Sequence[int]) -> Iterator[tuple[list[int], Packed]]:
        """The chosen rows in groups that fit into memory."""
        for group in grouped([len(rows[row]) for row in chosen], self.tokens):
            members = [chosen[at] for at in group]
            even = (WIDTH, PLACES) if self.compiled else (1, 1)
            yield members, pack([rows[row] for row in members], self.pad, *even)


def pack(rows: Sequence[Row], pad: int, width: int = 1, places: int = 1) -> Packed:
    """Put rows side by side, padded on the right: causal attention never looks there.

    The width becomes a multiple of `width`, the number of reply tokens one of `places`.
    """
    wide = -(-max(map(len, rows)) // width) * width
    ids = [row.prompt + row.reply + [pad] * (wide - len(row)) for row in rows]
    where = [
        at * wide + len(row.prompt) - 1 + i for at, row in enumerate(rows) for i in range(len(row.reply))
    ]
    token = [token for row in rows for token in row.reply]
    more = [0] * (-len(token) % places)
    return Packed(mx.array(ids), mx.array(where + more), mx.array(token + more), [len(r.reply) for r in rows])


def train(trainee: Trainee, lesson: Lesson, plan: TrainPlan, watch: Watch, checkpoint: Checkpoint) -> None:
    """Change the adapter until the plan is done or `watch` says so. Steps and epochs count from 1.

    The loss of a step is sum(weight * nll) / (tokens of rows with a weight above 0). Steps that a run
    before this one has saved are not repeated, and `watch` does not see them again.

    Raises:
        AdaError: a loss or gradient that is not finite, or too little memory for a single row; the adapter is
            then as the last good step left it.
    """
    model = trainee.body.model
    learner = Learner(trainee, plan)
    course = lesson.course(plan)
    behind = mlx_resume.load(checkpoint, learner, trainee, course)
    tokens = 0
    for stride in course:
        tokens += sum(len(lesson.rows[row].reply) for row in stride.rows)
        if stride.step <= behind:
            continue
        model.train()  # a watch that generated has left it in eval mode
        loss, drift = _gradient(trainee, learner, lesson, stride, plan)
        norm = learner.step(stride.rate)
        if not (math.isfinite(loss) and math.isfinite(drift) and math.isfinite(norm)):
            checkpoint.remove()  # going on from there would end in the same
            raise AdaError(
                f"training broke at step {stride.step}: loss {loss}, drift {drift}, gradient norm {norm}",
                hint="lower forge.learning_rate",
            )
        learner.keep()
        model.eval()
        course.heed(watch(stride.done(loss, drift, tokens)))
        if stride.step < course.steps:
            mlx_resume.save_if_due(checkpoint, stride.step, learner, trainee, course)


def _gradient(
    trainee: Trainee, learner: Learner, lesson: Lesson, stride: Stride, plan: TrainPlan
) -> tuple[float, float]:
    """The step's loss and mean drift, their gradient left to the learner. Too little memory: in parts.

    On the CPU MLX does not notice that memory is short: there the process ends.
    """
    while True:
        # a step draws the same wherever a run begins
        mx.random.seed(plan.seed * 1_000_003 + stride.step)
        try:
            loss = learner.learn(lesson.rows, lesson.weights, stride.rows)
            return loss, learner.stay(lesson.anchors, stride.anchors)
        except (RuntimeError, MemoryError) as error:
            if not memory.short_of_memory(error):
                raise
        # out of the except block: its traceback would keep the arrays that did not fit
        learner.restart()
        rows = (*(lesson.rows[row] for row in stride.rows), *(lesson.anchors[row] for row in stride.anchors))
        memory.make_room(trainee, max(map(len, rows)))


class Learner:
    """Gradients that add up, and the optimizer that spends them.

    Everything that is compiled takes the adapter as an argument and puts it into the model while it is
    traced, so that compiled and plain runs are one code.
    """

    def __init__(self, trainee: Trainee, plan: TrainPlan) -> None:
        self._trainee, self._plan = trainee, plan
        self._body = trainee.body
        self._adapter: Any = self._body.model.trainable_parameters()
        self._optimizer = optimizers.AdamW(
            plan.learning_rate, weight_decay=plan.weight_decay, bias_correction=True
        )
        self._optimizer.init(self._adapter)
        self._update = self._compiled(self._clipped, self._optimizer.state)
        self.restart()

    def restart(self) -> None:
        """Begin the step again, with nothing kept of what was begun of it."""
        self._gradient: Any = None
        self._body.model.update(self._adapter)
        mx.clear_cache()
        # traced anew: by now layers may be computed twice
        self._learn = self._compiled(mx.value_and_grad(self._nll), mx.random.state)
        self._stay = self._compiled(mx.value_and_grad(self._drift), mx.random.state)

    def learn(self, rows: Sequence[Row], weights: Sequence[float], batch: Sequence[int]) -> float:
        """Gradient of the weighted loss on a batch; returns the loss."""
        bearing = max(sum(len(rows[row].reply) for row in batch if weights[row] > 0), 1)
        total = 0.0
        for members, packed in self._trainee.parts(rows, batch):
            weight = packed.spread([weights[row] / bearing for row in members])
            loss, gradient = self._learn(self._adapter, packed.ids, packed.where, packed.token, weight)
            total += self._add(loss, gradient)
        return total

    def stay(self, anchors: Sequence[Row], batch: Sequence[int]) -> float:
        """Gradient of drift_weight * drift on anchors; returns the mean drift a token."""
        count = sum(len(anchors[row].reply) for row in batch)
        total = 0.0
        for members, packed in self._trainee.parts(anchors, batch):
            share = packed.spread([self._plan.drift_weight / count] * len(members))
            base = self._teacher(members, packed)
            slack = packed.spread([anchors[row].slack for row in members])
            loss, gradient = self._stay(self._adapter, packed.ids, packed.where, base, slack, share)
            total += self._add(loss, gradient)
        return total / self._plan.drift_weight if total else 0.0

    def step(self, rate: float) -> float:
        """Work out the adapter after this step; returns the gradient's norm. `keep` makes it the model's."""
        self._optimizer.learning_rate = rate
        self._next, norm = self._update(self._adapter, self._gradient)
        self._gradient = None
        mx.eval(self._next, norm, self._optimizer.state)
        return float(norm.item())

    def keep(self) -> None:
        """Put the adapter that `step` worked out into the model."""
        self._adapter = self._next
        self._body.model.update(self._adapter)

    def _compiled(self, function: Any, state: Any) -> Any:
        compiled = self._trainee.compiled
        return mx.compile(function, inputs=state, outputs=state) if compiled else function

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, by name."""
        return dict(trees.tree_flatten({"adapter": self._adapter, "optimizer": self._optimizer.state}))

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave.

        Raises:
            KeyError: something is missing in it.
        """
        now = {"adapter": self._adapter, "optimizer": self._optimizer.state}
        kept = trees.tree_map_with_path(lambda path, _: state[path], now)
        self._adapter = kept["adapter"]
        self._optimizer.state.update(kept["optimizer"])  # in place: the compiled step holds on to it
        self._body.model.update(self._adapter)

    def _add(self, loss: Any, gradient: Any) -> float:
        if self._gradient is not None:
            gradient = trees.tree_map(lambda one, more: one + more, self._gradient, gradient)
        self._gradient = gradient
        mx.eval(loss, gradient)
        self._body.model.update(self._adapter)  # tracing left its own arrays there
        return float(loss.item())

    def _nll(self, adapter: Any, ids: Any, where: Any, token: Any, weight: Any) -> Any:
        self._body.model.update(adapter)
        logits = self._body.logits(ids, where, noise=self._plan.noise)
        picked = mx.take_along_axis(logits, token[:, None], -1)[:, 0]
        return ((mx.logsumexp(logits, -1) - picked) * weight).sum()

    def _drift(self, adapter: Any, ids: Any, where: Any, base: Any, slack: Any, share: Any) -> Any:
        self._body.model.update(adapter)
        apart = self._body.states(ids, where) - base
        moved = mx.square(apart).sum(-1) / mx.square(base).sum(-1)
        pulled = mx.where(moved > slack, moved, mx.stop_gradient(moved))
        return (pulled * share).sum()

    def _clipped(self, adapter: Any, gradient: Any) -> tuple[Any, Any]:
        gradient, norm = optimizers.clip_grad_norm(gradient, self._plan.max_grad_norm)
        return self._optimizer.apply_gradients(gradient, adapter), norm

    def _teacher(self, members: Sequence[int], packed: Packed) -> Any:
        """The base's last states on these anchors' replies; worked out once an anchor. Shape (N, width)."""
        known, model = self._trainee.teacher, self._body.model
        if not all(row in known for row in members):
            back = set_strength(model, 0.0)
            model.eval()
            try:
                base = self._body.states(packed.ids, packed.where)
                mx.eval(base)
            finally:  # where memory is short the step is made again
                back()
                model.train()
            ends = np.cumsum(packed.sizes).tolist()
            known.remember(zip(members, mx.split(base, ends)[: len(members)], strict=True), members)
        rows = [known[row] for row in members]
        filling = packed.token.size - sum(packed.sizes)
        return mx.concatenate([*rows, mx.ones((filling, rows[0].shape[-1]))] if filling else rows)
