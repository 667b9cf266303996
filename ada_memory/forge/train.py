"""A night's training: runs the engine, asks the stop questions after each epoch, keeps the curve.

In: an engine, a dataset, settings, a seed. Out: a PEFT folder, loss.csv beside it, figures. Training ends
when the held-out phrasings are known, not when the loss is low: more only raises hallucination.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from ada_memory.engines.engine import Engine, Sampling, Step, TrainPlan, Watch
from ada_memory.errors import BadInput
from ada_memory.forge.dataset import Dataset, normalise
from ada_memory.records import Sample
from ada_memory.settings import ForgeSettings

COLUMNS = ("step", "epoch", "loss", "kl", "learning_rate", "tokens", "stop_recall")
ASKED = 256
"""Most stop questions asked after an epoch."""
REPLY_TOKENS = 48


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What there is to report of a training run."""

    figures: Mapping[str, object]


@dataclass(slots=True)
class _Watcher:
    """Stands beside the training: writes each step down, asks after each epoch, says when it is enough."""

    engine: Engine
    stop: Sequence[Sample]
    settings: ForgeSettings
    file: TextIO
    watch: Watch
    steps: list[Step] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    ended: str = "epochs"

    def __call__(self, step: Step) -> bool:
        self.steps.append(step)
        asked = bool(self.stop) and step.step % (step.steps // self.settings.epochs) == 0
        if asked:
            self.recalls.append(recall(self.engine, self.stop))
        said = f"{self.recalls[-1]:.4f}" if asked else ""
        figures = (f"{step.loss:.6f}", f"{step.kl:.6f}", f"{step.learning_rate:.4e}", step.tokens, said)
        csv.writer(self.file, lineterminator="\n").writerow((step.step, step.epoch, *figures))
        self.file.flush()
        if self.watch(step):
            self.ended = "watch"
            return True
        last = self.recalls[-self.settings.patience :]
        if asked and len(last) == self.settings.patience and min(last) >= self.settings.stop_recall:
            self.ended = "recall"
            return True
        return False


def train(
    engine: Engine, dataset: Dataset, settings: ForgeSettings, seed: int, out: Path, watch: Watch
) -> TrainReport:
    """Train on the dataset and save the adapter to `out`; loss.csv comes to lie beside it.

    Raises:
        BadInput: the dataset holds nothing to train on.
        AdaError: the training broke (NaN); no adapter is saved.
    """
    if not dataset.train:
        raise BadInput("there is nothing to train on: no dream was accepted")
    plan = TrainPlan(
        rank=settings.rank,
        alpha=settings.alpha,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        kl_weight=settings.kl_weight,
        seed=seed,
    )
    stop = dataset.stop[:: -(-len(dataset.stop) // ASKED)] if dataset.stop else ()
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (out.parent / "loss.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        watcher = _Watcher(engine, stop, settings, file, watch)
        engine.train(dataset.train, dataset.anchors, plan, out, watcher)
    return TrainReport(_figures(watcher, time.perf_counter() - began))


def recall(engine: Engine, rows: Sequence[Sample]) -> float:
    """Share of rows whose reply the model gives word for word, decoded greedily and normalised."""
    replies = engine.generate([row.messages[:-1] for row in rows], Sampling(max_tokens=REPLY_TOKENS))
    right = [
        normalise(reply.text) == normalise(row.messages[-1].content)
        for row, reply in zip(rows, replies, strict=True)
    ]
    return sum(right) / len(right)


def _figures(watcher: _Watcher, seconds: float) -> dict[str, object]:
    first, last = watcher.steps[0], watcher.steps[-1]
    return {
        "steps": last.step,
        "steps_planned": last.steps,
        "epochs": last.epoch,
        "tokens": last.tokens,
        "loss_first": first.loss,
        "loss_last": last.loss,
        "kl_last": last.kl,
        "kl_max": max(step.kl for step in watcher.steps),
        "stop_questions": len(watcher.stop),
        "stop_recall": watcher.recalls[-1] if watcher.recalls else None,
        "stop_recall_by_epoch": list(watcher.recalls),
        "ended": watcher.ended,
        "seconds": round(seconds, 2),
    }
