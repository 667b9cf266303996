"""`mlx_lm.lora` on a job of `ada bench forge`: `python -m ada_memory.bench.contenders.mlx_lora JOB`.

What `mlx_lm.lora.run` does, step by step with its own functions, but for the callback, which `run` replaces
by its own. The seconds are those that mlx-lm takes itself: an update alone, without reading or tokenising.
Variant: `dtype` of the frozen weights, as `mlx_lm.convert --dtype` would write them; "" is as they come.
Its loss is not ours: the mask reaches one token too far, so the padding behind each row counts too.
"""

from __future__ import annotations

import os
import tempfile
import types
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import mlx.core as mx
import numpy as np
from mlx_lm import lora
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import load_dataset
from mlx_lm.utils import load

from ada_memory.bench.clock import Clock, Job, report, versions


class Times(TrainingCallback):
    """Takes down each update as mlx-lm reports it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        """After every update (`steps_per_report` is 1): its loss, and the seconds that it took."""
        self.clock.step(train_info["train_loss"], 1 / train_info["iterations_per_second"])

    def on_val_loss_report(self, val_info: dict[str, Any]) -> None:
        """Never called: there is no validation set."""


def arguments(job: Job, scratch: str) -> types.SimpleNamespace:
    """What a configuration file would say: mlx-lm's defaults, and on top of them the job."""
    rise = round(job.warmup * job.updates)
    schedule = {
        "name": "cosine_decay",
        "warmup": rise,
        "warmup_init": job.learning_rate / max(rise, 1),
        "arguments": [job.learning_rate, max(job.updates - rise, 1), 0.0],
    }
    said = {
        "model": job.model,
        "train": True,
        "data": job.data,
        "seed": job.seed,
        "num_layers": -1,
        "batch_size": job.batch_size,
        "iters": job.updates,
        "optimizer": "adamw",
        "optimizer_config": {"adamw": {"weight_decay": 0.0}},
        "learning_rate": job.learning_rate,
        "lr_schedule": schedule,
        "steps_per_report": 1,
        "save_every": job.updates + 1,
        "adapter_path": scratch,
        "lora_parameters": {"rank": job.rank, "dropout": 0.0, "scale": job.scale},
        "mask_prompt": True,
    }
    return types.SimpleNamespace(**lora.CONFIG_DEFAULTS | said)


def main() -> None:
    """Run the job in the first argument."""
    job = Job.given()
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        args = arguments(job, scratch)
        np.random.seed(args.seed)
        loaded: Any = load(args.model)
        model, tokenizer = loaded
        if dtype := job.variant.get("dtype", ""):
            model.set_dtype(getattr(mx, dtype))
            mx.eval(model.parameters())
        train_set, valid_set, _ = load_dataset(args, tokenizer)
        rows = [train_set.process(train_set[at]) for at in range(len(train_set))]
        clock.start()
        lora.train_model(args, model, train_set, valid_set, Times(clock))
    report(
        job,
        clock,
        sum(len(tokens) - offset for tokens, offset in rows),
        sum(len(tokens) for tokens, _ in rows),
        loss_counts_padding=True,
        versions=versions(("mlx", "mlx-lm", "transformers")),
    )


if __name__ == "__main__":
    main()
