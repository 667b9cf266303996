"""SEAL's setting: a day's facts and an edit, eight days long; what is left of the first at the end.

In: nights, facts a day, a seed. Out: for each way a matrix of recall, row = after which night, column = of
which day's facts, judged in phrasings that nobody trains on. Two ways are measured on the same facts:

- stacked: what SEAL does (2506.10943; Continual-Intelligence/SEAL, 4cb1e7d, knowledge-incorporation:
  scripts/continual_self_edits.sh, src/continual/continual_self_edits.py and src/inner/TTT_server.py). A new
  adapter a day on q and v, rank 32, alpha 64, 1e-3 falling to zero (on a line; here on a cosine), ten epochs,
  one row a step, the prompt carries loss; it is merged, and the next day trains on the merged weights. No
  replay, nothing holds the base. The rows are true by construction, where SEAL's are the model's own.
- ada: real nights of a real daemon, one living adapter over the untouched base.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ada_memory.bench import day as days
from ada_memory.bench.house import house
from ada_memory.bench.night import say
from ada_memory.engines.engine import Engine, Hardware, TrainPlan, open_engine
from ada_memory.forge.phrasings import normalise
from ada_memory.records import Message, Sample
from ada_memory.seedling import exam, world
from ada_memory.seedling.world import Fact
from ada_memory.settings import Home, load
from ada_memory.sovereign.bases import prepare_base
from ada_memory.topology.exam import Question, marks, sit

SAMPLES = 10
"""Rows that a fact is trained with, when they come from the grammar."""
KINDS = ("question", "question", "statement", "reversal", "rule")
"""The kinds of those rows, in turn."""
SEAL = TrainPlan(
    rank=32,
    alpha=64,
    learning_rate=1e-3,
    warmup=0.0,
    epochs=10,
    batch_size=1,
    drift_weight=0.0,
    targets=("q_proj", "v_proj"),
    mask_prompt=False,
)


@dataclass(frozen=True, slots=True)
class Week:
    """Days of facts that do not contradict one another, what is asked of each, and the core exam."""

    told: tuple[tuple[days.Told, ...], ...]
    asked: tuple[tuple[Question, ...], ...]
    core: Sequence[Question]
    seed: int


def week(nights: int, facts: int, seed: int, core: Sequence[Question] | None = None) -> Week:
    """Draw so many days of so many facts, none of which contradicts another."""
    told = days.calendar(nights, facts, seed)
    asked = days.questions([item for day in told for item in day])
    each = facts * days.JUDGES
    return Week(
        tuple(map(tuple, told)),
        tuple(tuple(asked[n * each : (n + 1) * each]) for n in range(nights)),
        exam.core_exam("judge", seed, 2) if core is None else core,
        seed,
    )


def run(
    nights: int = 8,
    facts: int = 10,
    seed: int = 7,
    home: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Both ways on the same facts; progress goes to standard error.

    Raises:
        AdaError: the daemon, a night or a training failed.
    """
    drawn = week(nights, facts, seed)
    figures: dict[str, Any] = {"nights": nights, "facts_per_night": facts, "seed": seed}
    return figures | {"stacked": stacked(drawn, settings), "ada": living(drawn, home, settings)}


def rows_of(told: Sequence[days.Told], withheld: Sequence[str], seed: int) -> list[Sample]:
    """Distinct true samples of each fact, none with a prompt that judges."""
    never = {normalise(prompt) for prompt in withheld}
    rng = Random(f"seal:{seed}")
    rows: list[Sample] = []
    for item in told:
        if not isinstance(item.of, Fact):
            continue
        made: dict[str, Sample] = {}
        for draw in range(SAMPLES * 100):  # more draws than any fact needs
            if len(made) == SAMPLES:
                break
            prompt, reply = world.true_sample(rng, KINDS[draw % len(KINDS)], item.of)
            if normalise(prompt) not in never:
                row = Sample((Message("user", prompt), Message("assistant", reply)), "new")
                made.setdefault(normalise(prompt), row)
        rows += made.values()
    return rows


def stacked(drawn: Week, settings: Mapping[str, str] | None = None, plan: TrainPlan = SEAL) -> dict[str, Any]:
    """A new adapter a day, merged into the weights that the next day trains on.

    Raises:
        AdaError: a training broke.
    """
    withheld = days.withheld([item for told in drawn.told for item in told])
    model = load(Path("ada.toml"), {}, settings or {}).model
    with tempfile.TemporaryDirectory(prefix="ada-seal-") as scratch:
        folder = prepare_base(Home(Path(scratch)), model).path

        def engine(path: Path, adapter: Path | None = None) -> Engine:
            return open_engine(model.engine, path, adapter, Hardware.of(model))

        watch = _Watch("stacked", drawn, engine(folder))
        for number, told in enumerate(drawn.told):
            began = time.perf_counter()
            adapter, merged = Path(scratch) / "adapter", Path(scratch) / f"merged-{number}"
            trained = engine(folder)
            trained.train(rows_of(told, withheld, drawn.seed), (), plan, adapter, lambda _: False)
            trained.merge(merged)
            if number:
                shutil.rmtree(folder)
            folder = merged
            watch.after(engine(folder), time.perf_counter() - began)
        return watch.figures()


def living(
    drawn: Week, home: Path | None = None, settings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A real night a day: one adapter that lives on, over a base that nobody touches.

    Raises:
        AdaError: the daemon or a night failed.
    """
    with tempfile.TemporaryDirectory(prefix="ada-seal-") as scratch:
        kept_back = days.keep_back([item for told in drawn.told for item in told], Path(scratch))
        flags = {"sunset.at": "", "sunset.capacity": 0, "forge.withhold": kept_back, **(settings or {})}
        with house(home, flags) as ada:
            watch = _Watch("ada", drawn, ada.engine())
            for day, told in enumerate(drawn.told):
                ada.tell((item.text for item in told), f"seal-{day}")
                began = time.perf_counter()
                report = ada.wait_night(str(ada.client.sleep()["night"]))
                watch.after(ada.engine(), time.perf_counter() - began, str(report.get("verdict")))
            return watch.figures()


class _Watch:
    """Asks after every night and keeps what was answered."""

    def __init__(self, name: str, drawn: Week, before: Engine) -> None:
        self.name, self.drawn = name, drawn
        self.before, self.core_before = self._recalls(before), self._core(before)
        self.matrix: list[list[float]] = []
        self.cores: list[float] = []
        self.seconds: list[float] = []
        self.verdicts: list[str] = []

    def after(self, engine: Engine, seconds: float, verdict: str = "") -> None:
        self.matrix.append(self._recalls(engine))
        self.cores.append(self._core(engine))
        self.seconds.append(round(seconds, 1))
        self.verdicts += [verdict] if verdict else []
        taught = self.matrix[-1][: len(self.matrix)]
        said = f"of {len(taught)} days {sum(taught) / len(taught):.3f}, of the first {taught[0]:.3f}"
        say(f"{self.name}, night {len(self.matrix)}: recall {said}; core {self.cores[-1]:.3f} {verdict}")

    def figures(self) -> dict[str, Any]:
        last = self.matrix[-1]
        return {
            "recall_before": round(sum(self.before) / len(self.before), 4),
            "core_before": self.core_before,
            "matrix": self.matrix,
            "mean_final": round(sum(last) / len(last), 4),
            "first_own": self.matrix[0][0],
            "first_final": last[0],
            "core": self.cores,
            "seconds": self.seconds,
            **({"verdicts": self.verdicts} if self.verdicts else {}),
        }

    def _recalls(self, engine: Engine) -> list[float]:
        return [round(days.recall(engine, asked), 4) for asked in self.drawn.asked]

    def _core(self, engine: Engine) -> float:
        return round(marks(self.drawn.core, sit(engine, self.drawn.core))["all"], 4)
