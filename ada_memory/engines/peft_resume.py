"""A run on torch, put into its checkpoint and taken out of it: weights, moments, and how it was divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ada_memory.engines import resume
from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.peft_optimizer import Optimizer
from ada_memory.engines.peft_step import Trainee
from ada_memory.engines.resume import SAMPLE, Checkpoint
from ada_memory.engines.schedule import Course


def load(checkpoint: Checkpoint, trainee: Trainee, optimizer: Optimizer, course: Course) -> int:
    """Take up what an interrupted run has left: the last step that it holds, 0 if there is none."""
    try:
        with safe_open(checkpoint.file, "pt") as file:
            kept = checkpoint.accept(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        optimizer.restore(state, int(kept["step"]))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError):
        return 0
    resume.divide(trainee, kept)
    course.restore(kept)
    return int(kept["step"])


def save_if_due(
    checkpoint: Checkpoint, step: int, trainee: Trainee, optimizer: Optimizer, course: Course
) -> None:
    """Save the run as it is after `step`, where its checkpoint is due."""

    def write(file: Path, metadata: dict[str, str]) -> None:
        save_file({n: t.cpu().contiguous() for n, t in optimizer.state().items()}, file, metadata)

    checkpoint.save_if_due(
        write, step=step, **course.state(), tokens=trainee.tokens, recompute=trainee.recompute
    )


def digest_of(lesson: Lesson, plan: TrainPlan, model: Any, adapter: Mapping[str, torch.Tensor]) -> str:
    """A name for a run on torch: see `resume.digest_of`."""
    about = torch.__version__, torch.get_num_threads(), model.dtype, model.device
    base = (
        (f"{name} {tuple(parameter.shape)}", _bytes(parameter.detach().flatten()[:SAMPLE]))
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    )
    return resume.digest_of(lesson, plan, about, ((n, _bytes(t)) for n, t in adapter.items()), base)


def _bytes(tensor: torch.Tensor) -> bytes:
    plain: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return plain
