"""Our own training on a job of `ada bench forge`: `python -m ada_memory.bench.forge_ours JOB`.

Variant: `engine`, by name. The loss is plain (no anchors, every weight 1), since no contender has more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ada_memory.bench.clock import Clock, Job, report, versions
from ada_memory.engines.engine import Step, TrainPlan, open_engine
from ada_memory.records import Message, Sample


def main() -> None:
    """Run the job in the first argument."""
    job = Job.given()
    engine = open_engine(job.variant["engine"], Path(job.model))
    samples = [
        Sample(tuple(Message(m["role"], m["content"]) for m in chat), "new")  # type: ignore[arg-type]
        for chat in job.rows()
    ]
    plan = TrainPlan(
        rank=job.rank,
        alpha=round(job.scale * job.rank),
        learning_rate=job.learning_rate,
        warmup=job.warmup,
        epochs=job.epochs,
        batch_size=job.batch_size,
        drift_weight=0.0,
        seed=job.seed,
    )
    clock, trained = Clock(), 0

    def watch(step: Step) -> bool:
        nonlocal trained
        clock.step(step.loss)
        trained = step.tokens
        return False

    with tempfile.TemporaryDirectory() as scratch:
        clock.start()
        engine.train(samples, (), plan, Path(scratch) / "adapter", watch)
    prompts = engine.measure([sample.messages[:-1] for sample in samples])
    replies = trained // job.epochs
    report(
        job,
        clock,
        replies,
        sum(prompts) + replies,
        versions=versions(("torch", "transformers", "peft", "mlx", "mlx-lm")),
    )


if __name__ == "__main__":
    main()
