"""Seconds until the stop phrasings are known: `python -m ada_memory.bench.forge_recall JOB`.

The night's own training with its own settings and anchors, the questions after each epoch included, but that
it ends at the first epoch with a recall of 0.95. The job's `data` is the folder of a dataset, its variant
names the engine. The seconds are those of the training; loading the model is told beside them.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from ada_memory.bench.clock import Job, peaks
from ada_memory.engines.engine import open_engine
from ada_memory.forge import dataset as forge_dataset
from ada_memory.forge.train import train
from ada_memory.settings import ForgeSettings

RECALL = 0.95


def main() -> None:
    """Run the job in the first argument."""
    job = Job.given()
    began = time.perf_counter()
    engine = open_engine(job.variant["engine"], Path(job.model))
    loaded = time.perf_counter()
    night = forge_dataset.read(Path(job.data))
    settings = ForgeSettings(stop_recall=RECALL, patience=1, landing=0, mends=0)
    with tempfile.TemporaryDirectory() as scratch:
        figures = train(engine, night, settings, job.seed, Path(scratch) / "adapter", lambda step: False)
    seconds = time.perf_counter() - loaded
    recall = figures["stop_recall"]
    line = {
        "seconds_to_recall": round(seconds, 2) if recall is not None and recall >= RECALL else None,  # type: ignore[operator]
        "recall": recall,
        "recall_epochs": figures["epochs"],
        "seconds_to_load": round(loaded - began, 2),
        **peaks(),
    }
    print("\n" + json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
