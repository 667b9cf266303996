"""A run on MLX, put into its checkpoint and taken out of it: weights, moments, and how it was divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ada_memory.engines import resume
from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.memory import Divisible
from ada_memory.engines.mlx_core import BLAS, mx, trees
from ada_memory.engines.mlx_load import adapter_tensors
from ada_memory.engines.resume import SAMPLE, Checkpoint
from ada_memory.engines.schedule import Course


class Saved(Protocol):
    """What can be saved and put back, as arrays by name."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


def load(checkpoint: Checkpoint, learner: Saved, run: Divisible, course: Course) -> int:
    """Take up what an interrupted run has left: the last step that it holds, 0 if there is none."""
    if not checkpoint.file.is_file():
        return 0
    try:
        state, metadata = mx.load(str(checkpoint.file), return_metadata=True)
        kept = checkpoint.accept(metadata)
        learner.restore(state)
    except (OSError, ValueError, KeyError, RuntimeError):
        return 0
    resume.divide(run, kept)
    course.restore(kept)
    return int(kept["step"])


def save_if_due(
    checkpoint: Checkpoint, step: int, learner: Saved, run: Divisible, course: Course
) -> None:
    """Save the run as it is after `step`, where its checkpoint is due."""

    def write(file: Path, metadata: dict[str, str]) -> None:
        mx.save_safetensors(str(file), learner.state(), metadata=metadata)

    checkpoint.save_if_due(write, step=step, **course.state(), tokens=run.tokens, recompute=run.recompute)


def digest_of(lesson: Lesson, plan: TrainPlan, model: Any) -> str:
    """A name for a run on MLX: see `resume.digest_of`."""
    adapter = ((name, tensor.tobytes()) for name, tensor in adapter_tensors(model).items())
    base = (
        (
            f"{name} {tensor.shape} {tensor.dtype}",
            np.array(tensor.flatten()[:SAMPLE].astype(mx.float32)).tobytes(),
        )
        for name, tensor in trees.tree_flatten(model.parameters())
        if ".lora_" not in name
    )
    return resume.digest_of(lesson, plan, (mx.__version__, BLAS, mx.default_device()), adapter, base)
