"""What an interrupted training needs to go on, whichever engine runs it.

In: how an engine writes its tensors. Out: one file, which is always whole, and which only a run over the very
same data, plan, base and starting adapter takes up. When the run is over it is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ada_memory.engines.engine import UNFINISHED, TrainPlan
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.memory import Divisible

SHARE = 0.01
"""Most of the time that may go into saving."""
FORMAT = 1
SAMPLE = 512
"""Numbers that are read of each of the base's matrices: they tell two models apart, all would take long."""


def divide(run: Divisible, kept: Mapping[str, Any]) -> None:
    """Have a run go on in parts of the same size, if they still fit.

    Sums of other parts are rounded otherwise, and noise may be drawn part by part.
    """
    run.tokens = min(run.tokens, int(kept["tokens"]))
    if kept["recompute"] and not run.recompute:
        run.recompute_layers()


@dataclass(slots=True)
class Checkpoint:
    """Where and how often a run is saved. `digest` names the run: see `digest_of`."""

    file: Path
    digest: str
    share: float = SHARE
    _due: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, out: Path, digest: str, share: float) -> Checkpoint:
        """The checkpoint of a run whose adapter will be `out`."""
        return cls(out.parent / UNFINISHED / f"{out.name}.safetensors", digest, share)

    def accept(self, metadata: dict[str, str]) -> dict[str, Any]:
        """What a file says about the run that wrote it.

        Raises:
            ValueError: it was another run.
            KeyError: the file is no checkpoint.
        """
        run: dict[str, Any] = json.loads(metadata["run"])
        if run["digest"] != self.digest:
            raise ValueError("the file belongs to another run")
        return run

    def save_if_due(self, write: Callable[[Path, dict[str, str]], None], **run: object) -> None:
        """Have tensors and metadata written, as long as saving takes no more than its share of the time."""
        began = time.perf_counter()
        if began < self._due:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._partial
        write(partial, {"run": json.dumps({"digest": self.digest, **run})})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.file)
        ended = time.perf_counter()
        self._due = ended + (ended - began) / self.share

    def remove(self) -> None:
        """The run is over: nothing of it stays but the adapter."""
        for file in (self.file, self._partial):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or somebody else keeps something there
            self.file.parent.rmdir()

    @property
    def _partial(self) -> Path:
        return self.file.with_name(f".tmp-{self.file.name}")


def digest_of(
    lesson: Lesson,
    plan: TrainPlan,
    about: Iterable[object],
    adapter: Iterable[tuple[str, bytes]],
    base: Iterable[tuple[str, bytes]],
) -> str:
    """A name for a run, that any change of data, plan, base or starting adapter changes.

    `about` is what else decides the outcome; of the base's matrices the first `SAMPLE` numbers do.
    """
    said = hashlib.sha256()
    rows = [[(row.prompt, row.reply, row.slack) for row in part] for part in (lesson.rows, lesson.anchors)]
    told = [FORMAT, *map(str, about)], asdict(plan), rows, list(lesson.weights), list(lesson.pools)
    said.update(json.dumps(told).encode())
    for part in (adapter, base):
        for name, content in part:
            said.update(name.encode() + content)
    return said.hexdigest()
