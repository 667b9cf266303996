"""What an interrupted training needs to go on: weights, moments and the step they belong to.

In: an optimizer after a step. Out: one file, which is always whole, and which only a run over the very same
data, plan, base and starting adapter takes up. When the run is over it is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.peft_optimizer import Optimizer
from ada_memory.engines.peft_step import Trainee
from ada_memory.engines.schedule import Course

SHARE = 0.01
"""Most of the time that may go into saving."""
FORMAT = 1


@dataclass(slots=True)
class Checkpoint:
    """Where and how often a run is saved. `digest` names the run: see `digest_of`."""

    file: Path
    digest: str
    share: float = SHARE
    _due: float = field(default_factory=time.perf_counter)

    def load(self, trainee: Trainee, optimizer: Optimizer, course: Course) -> int:
        """Take up what an interrupted run has left: the last step that it holds, 0 if there is none."""
        try:
            with safe_open(self.file, "pt") as file:
                kept = json.loads((file.metadata() or {})["run"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if kept["digest"] != self.digest:
                return 0
            optimizer.restore(state, int(kept["step"]))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError):
            return 0
        # in parts of the same size: sums of other parts are rounded otherwise
        trainee.tokens = int(kept["tokens"])
        if kept["recompute"] and not trainee.recompute:
            trainee.recompute_layers()
        course.landed = int(kept["landed"])
        return int(kept["step"])

    def save_if_due(self, step: int, trainee: Trainee, optimizer: Optimizer, course: Course) -> None:
        """Save the run as it is after `step`, as long as saving takes no more than its share of the time."""
        began = time.perf_counter()
        if began < self._due:
            return
        state = {name: tensor.cpu().contiguous() for name, tensor in optimizer.state().items()}
        run = {
            "digest": self.digest, "step": step, "landed": course.landed, "tokens": trainee.tokens,
            "recompute": trainee.recompute,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_name(f".tmp-{self.file.name}")
        save_file(state, partial, {"run": json.dumps(run)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.file)
        ended = time.perf_counter()
        self._due = ended + (ended - began) / self.share

    def remove(self) -> None:
        """The run is over: nothing of it stays but the adapter."""
        for file in (self.file, self.file.with_name(f".tmp-{self.file.name}")):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or somebody else keeps something there
            self.file.parent.rmdir()


def digest_of(lesson: Lesson, plan: TrainPlan, model: Any, adapter: Mapping[str, torch.Tensor]) -> str:
    """A name for a run, that any change of data, plan, base or starting adapter changes.

    Of the base's matrices only the beginnings are read: they tell two models apart, and all of it would
    take seconds.
    """
    said = hashlib.sha256()
    rows = [[(row.prompt, row.reply) for row in part] for part in (lesson.rows, lesson.anchors)]
    about = [FORMAT, torch.__version__, torch.get_num_threads(), str(model.dtype), str(model.device)]
    said.update(json.dumps([about, asdict(plan), rows, list(lesson.weights), list(lesson.pools)]).encode())
    for name, tensor in adapter.items():
        said.update(name.encode() + _bytes(tensor))
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            said.update(
                f"{name} {tuple(parameter.shape)}".encode() + _bytes(parameter.detach().flatten()[:512])
            )
    return said.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    plain: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return plain
