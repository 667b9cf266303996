"""A night's training: runs the engine, asks the stop questions after each epoch, keeps the curve.

In: an engine, a dataset, settings, a seed. Out: a PEFT folder, loss.csv beside it, figures. Training ends
when the held-out phrasings are known, not when the loss is low: more only raises hallucination. Memories
whose phrasing is not known at its end are mended: gone over once more, with others beside them.
"""

from __future__ import annotations

import csv
import math
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ada_memory.engines.engine import UNFINISHED, Engine, Sampling, Speaker, Step, TrainPlan, Watch
from ada_memory.errors import BadInput
from ada_memory.forge.dataset import Dataset, mending, turns
from ada_memory.forge.phrasings import normalise
from ada_memory.records import Sample
from ada_memory.settings import ForgeSettings

COLUMNS = ("step", "epoch", "loss", "drift", "learning_rate", "tokens", "stop_recall")
ASKED = 320
"""Most stop questions asked after an epoch."""
REPLY_TOKENS = 48


@dataclass(slots=True)
class _Watcher:
    """Stands beside the training: writes each step down, asks after each epoch, says when it is enough."""

    engine: Engine
    rows: Sequence[Sample]
    stop: Sequence[Sample]
    settings: ForgeSettings
    plan: TrainPlan
    file: Path
    watch: Watch
    steps: list[Step] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    ended: str = "epochs"

    def __call__(self, step: Step) -> bool | Sequence[int]:
        if not self.steps:
            self._begin(step)
        self.steps.append(step)
        known: Sequence[bool] = ()
        if self.stop and step.ends_epoch:
            known = gives(self.engine, self.stop)
            self.recalls.append(sum(known) / len(known))
        self._write([_row(step, self.recalls[-1] if known else None)], "a")
        if self.watch(step):
            self.ended = "watch"
        if known:
            self._judge()
        if known and self.ended != "watch" and step.step == step.steps:
            return self._mend(known)
        return self.ended != "epochs"

    def _judge(self) -> None:
        """Whether enough is known, for enough epochs in a row."""
        last = self.recalls[-self.settings.patience :]
        enough = len(last) == self.settings.patience and min(last) >= self.settings.stop_recall
        if enough and self.ended == "epochs":
            self.ended = "recall"

    @property
    def mends(self) -> int:
        """How often rows were gone over once more."""
        return max(0, self.steps[-1].epoch - self.plan.epochs)

    def _mend(self, known: Sequence[bool]) -> Sequence[int]:
        """The rows to go over once more; none if enough is known, or that was done often enough."""
        if self.recalls[-1] >= self.settings.stop_recall or self.mends >= self.settings.mends:
            return ()
        weak = {of for row, ok in zip(self.stop, known, strict=True) if not ok for of in row.memories[:1]}
        shuffle = random.Random(f"mend/{self.plan.seed}/{self.mends}")
        return mending(self.rows, weak, self.settings.core_share, shuffle)

    def _begin(self, step: Step) -> None:
        """Take up the curve of the steps before this one: a run that was killed goes on in its middle."""
        rows = _curve(self.file)[: step.step - 1]
        for number, epoch, loss, drift, rate, tokens, said in rows:
            figures = float(loss), float(drift), float(rate), int(tokens)
            self.steps.append(Step(int(number), step.steps, int(epoch), *figures))
            if said:
                self.recalls.append(float(said))
                self._judge()
        self._write([COLUMNS, *rows], "w")

    def _write(self, rows: Sequence[Sequence[object]], mode: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open(mode, encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _row(step: Step, recall: float | None) -> Sequence[object]:
    figures = (f"{step.loss:.6f}", f"{step.drift:.6f}", f"{step.learning_rate:.4e}", step.tokens)
    return (step.step, step.epoch, *figures, "" if recall is None else f"{recall:.4f}")


def _curve(file: Path) -> list[list[str]]:
    """The whole rows of a curve, without its head; none if there is no file."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.reader(lines) if len(row) == len(COLUMNS)][1:]


def train(
    engine: Engine, dataset: Dataset, settings: ForgeSettings, seed: int, out: Path, watch: Watch
) -> dict[str, object]:
    """Train on the dataset and save the adapter to `out`; loss.csv comes to lie beside it. Returns figures.

    A run that was killed goes on when it is asked for again: its curve has every step once.

    Raises:
        BadInput: the dataset holds nothing to train on.
        AdaError: the training broke (NaN); no adapter is saved.
    """
    if not dataset.train:
        raise BadInput("there is nothing to train on: no dream was accepted")
    fresh = _newness(dataset.train)
    root = math.sqrt(fresh)
    plan = TrainPlan(
        rank=settings.rank,
        alpha=settings.alpha,
        learning_rate=settings.learning_rate * root,
        warmup=settings.warmup,
        epochs=epochs(turns(dataset.train), settings),
        batch_size=settings.batch_size,
        anchor_batch=settings.anchor_batch,
        drift_weight=settings.drift_weight,
        landing=settings.landing,
        mend_rate=settings.mend_rate,
        noise=settings.noise * fresh,
        seed=seed,
    )
    stop = dataset.stop[:: -(-len(dataset.stop) // ASKED)] if dataset.stop else ()
    began = time.perf_counter()
    # kept where a run that is killed and begun again finds it; the engine keeps its own things there
    curve = out.parent / UNFINISHED / "loss.csv"
    watcher = _Watcher(engine, dataset.train, stop, settings, plan, curve, watch)
    anchors = [replace(row, slack=row.slack * fresh) for row in dataset.anchors]
    engine.train(dataset.train, anchors, plan, out, watcher)
    watcher.file.replace(out.parent / "loss.csv")
    with suppress(OSError):
        watcher.file.parent.rmdir()
    return _figures(watcher, time.perf_counter() - began)


def epochs(rows: int, settings: ForgeSettings) -> int:
    """Most passes over so many rows: `settings.epochs`, or up to twice as many if these are few steps."""
    each = math.ceil(rows / settings.batch_size)
    return min(max(settings.epochs, math.ceil(settings.steps / each)), 2 * settings.epochs)


def _newness(rows: Sequence[Sample]) -> float:
    """The share of what is new among what is new and what is rehearsed; 1 if nothing is new.

    The more is rehearsed, the more steps there are and the less each may move. With the root of it as
    learning rate the whole way stays as long, as of a random walk; at the full rate the first epochs of a
    night with 17 before it unlearned a quarter of what was known, and not all of it came back. Noise helps
    with what is heard for the first time; what twenty nights have rehearsed is blurred by it. Slack helps
    early nights most, and what every night lets slip adds up.
    """
    new, due = (turns([row for row in rows if row.source == source]) for source in ("new", "due"))
    return new / (new + due) if new else 1.0


def gives(engine: Speaker, rows: Sequence[Sample]) -> list[bool]:
    """Whether the model gives each row's reply word for word, decoded greedily and normalised."""
    return [
        normalise(reply) == normalise(row.messages[-1].content)
        for row, reply in zip(rows, given(engine, rows), strict=True)
    ]


def given(engine: Speaker, rows: Sequence[Sample]) -> list[str]:
    """What the model replies to each row's question, decoded greedily."""
    asked = [row.messages[:-1] for row in rows]
    replies = engine.generate(asked, Sampling(max_tokens=REPLY_TOKENS)) if asked else []
    return [reply.text for reply in replies]


def _figures(watcher: _Watcher, seconds: float) -> dict[str, object]:
    first, last = watcher.steps[0], watcher.steps[-1]
    return {
        "steps": last.step,
        "steps_planned": last.steps,
        "epochs": max(s.epoch for s in watcher.steps if s.epoch <= watcher.plan.epochs),
        "mends": watcher.mends,
        "tokens": last.tokens,
        "loss_first": first.loss,
        "loss_last": last.loss,
        "drift_last": last.drift,
        "drift_max": max(step.drift for step in watcher.steps),
        "stop_questions": len(watcher.stop),
        "stop_recall": watcher.recalls[-1] if watcher.recalls else None,
        "stop_recall_by_epoch": list(watcher.recalls),
        "ended": watcher.ended,
        "seconds": round(seconds, 2),
    }
