"""What an interrupted training on MLX needs to go on: weights, moments and the step they belong to.

In: a learner after a step. Out: one file, which is always whole, and which only a run over the very same
data, plan, base and starting adapter takes up. When the run is over it is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.mlx_core import BLAS, mx, trees
from ada_memory.engines.mlx_load import adapter_tensors
from ada_memory.engines.schedule import Course

SHARE = 0.01
"""Most of the time that may go into saving."""
FORMAT = 1


class Saved(Protocol):
    """What can be saved and put back, as arrays by name."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(slots=True)
class Checkpoint:
    """Where and how often a run is saved. `digest` names the run: see `digest_of`."""

    file: Path
    digest: str
    share: float = SHARE
    _due: float = field(default_factory=time.perf_counter)

    def load(self, learner: Saved, course: Course) -> int:
        """Take up what an interrupted run has left: the last step that it holds, 0 if there is none."""
        if not self.file.is_file():
            return 0
        try:
            state, about = mx.load(str(self.file), return_metadata=True)
            kept = json.loads(about["run"])
            if kept["digest"] != self.digest:
                return 0
            learner.restore(state)
        except (OSError, ValueError, KeyError, RuntimeError):
            return 0
        course.landed = int(kept["landed"])
        return int(kept["step"])

    def save_if_due(self, step: int, learner: Saved, course: Course) -> None:
        """Save the run as it is after `step`, as long as saving takes no more than its share of the time."""
        began = time.perf_counter()
        if began < self._due:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_name(f".tmp-{self.file.name}")
        run = json.dumps({"digest": self.digest, "step": step, "landed": course.landed})
        mx.save_safetensors(str(partial), learner.state(), metadata={"run": run})
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


def digest_of(lesson: Lesson, plan: TrainPlan, model: Any) -> str:
    """A name for a run, that any change of data, plan, base or starting adapter changes.

    Of the base's matrices only the beginnings are read: they tell two models apart, and all of it would
    take seconds.
    """
    said = hashlib.sha256()
    about = [FORMAT, mx.__version__, BLAS, str(mx.default_device())]
    texts = [[(row.prompt, row.reply) for row in part] for part in (lesson.rows, lesson.anchors)]
    said.update(json.dumps([about, asdict(plan), texts, list(lesson.weights), list(lesson.pools)]).encode())
    for name, tensor in adapter_tensors(model).items():
        said.update(name.encode() + tensor.tobytes())
    for name, tensor in trees.tree_flatten(model.parameters()):
        if ".lora_" not in name:
            first = np.array(tensor.flatten()[:512].astype(mx.float32))
            said.update(f"{name} {tensor.shape} {tensor.dtype}".encode() + first.tobytes())
    return said.hexdigest()
